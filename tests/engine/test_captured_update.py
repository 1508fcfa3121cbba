"""Captured steps against ordinary ones: bit for bit in a simulation, and on a GPU where one is."""

import copy
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.optim import AmpOptimWrapper, OptimWrapper, OptimWrapperDict
from simulated_gpu import simulate_graphs

from spynco_mm.engine.captured_update import CHANGES, CapturedUpdate

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
from small_models import batch, build, config, weights

NETWORKS = ("generator", "discriminator")
WARMUP = 1


@pytest.fixture(
    params=[
        "simulated",
        pytest.param("cuda", marks=pytest.mark.gpu),
    ]
)
def device(request, monkeypatch):
    if request.param == "simulated":
        simulate_graphs(monkeypatch)
        return "cpu"
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    return "cuda"


class CPUAutocast(OptimWrapper):
    """AmpOptimWrapper with bfloat16, but where there is no GPU."""

    def optim_context(self, model):
        return torch.autocast("cpu", torch.bfloat16)


def optimizers(model, device, bfloat16=False, clip_grad=None, **adam):
    kind, options = OptimWrapper, {}
    if bfloat16 and device == "cuda":
        kind, options = AmpOptimWrapper, dict(dtype="bfloat16", loss_scale=dict(enabled=False))
    elif bfloat16:
        kind = CPUAutocast
    if clip_grad:
        options["clip_grad"] = clip_grad
    # Adam makes steps of rounding errors alone, unless eps is large. A power of two is the same
    # rate in float32, which it is on the device, as it is in Python.
    adam = dict(dict(lr=2**-12, betas=(0.5, 0.999), eps=1e-3, fused=True), **adam)
    return OptimWrapperDict(
        **{
            name: kind(
                optimizer=torch.optim.Adam(getattr(model, name).parameters(), **adam),
                **copy.deepcopy(options),  # which the wrapper takes apart
            )
            for name in NETWORKS
        }
    )


def train(device, captured, between=lambda i, model, wrappers: 4, steps=8, model=None, **options):
    """Some steps with a rate that falls, and all that they leave."""
    model = build(buffer_size=5, **(model or {})).to(device)
    wrappers, told, logs = optimizers(model, device, **options), [], []
    np.random.seed(0)
    if captured:
        model.update = CapturedUpdate(model, WARMUP, told.append)
    for i in range(steps):
        for wrapper in wrappers.values():
            wrapper.optimizer.param_groups[0]["lr"] = 2.0 ** -(9 + i // 3)
        n = between(i, model, wrappers)
        logs.append(model.train_step(batch(n, (24, 24), seed=i), wrappers))
    left = dict(
        weights=weights(model),
        logs=logs,
        pools=[pool.held() for pool in model.image_buffers],
        optimizers=wrappers.state_dict(),
        counts=[wrapper.inner_count for wrapper in wrappers.values()],
        draws=np.random.rand(),
        frozen=[name for name, p in model.named_parameters() if not p.requires_grad],
        gradients=[p.grad for p in model.parameters()],
    )
    return SimpleNamespace(left=left, told=told)


def assert_same(device, a, b, where="left"):
    """To the last bit in the simulation, in which all is computed in one order."""
    if isinstance(a, torch.Tensor):
        error = dict(atol=0, rtol=0) if device == "cpu" else dict(atol=2e-3, rtol=1e-2)
        torch.testing.assert_close(a, b, **error, msg=lambda text: f"{where}: {text}")
    elif isinstance(a, (dict, list)):
        keys = a.keys() if isinstance(a, dict) else range(len(a))
        assert (list(a) == list(b)) if isinstance(a, dict) else (len(a) == len(b)), where
        for key in keys:
            assert_same(device, a[key], b[key], f"{where}.{key}")
    else:
        assert a == b, where


def odd_last_ones(i, model, wrappers):
    return 3 if i % 4 == 1 else 4


CASES = {
    "joint": dict(clip_grad=dict(max_norm=0.5)),
    "parted": dict(
        bfloat16=True,
        model=dict(
            joint_pixels=0,
            generator={**config()["generator"], "consistency": dict(type="ExactConsistency")},
        ),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_replays_are_the_steps_they_stand_for(device, case):
    options = dict(CASES[case], between=odd_last_ones)
    plain, captured = (train(device, captured, **options) for captured in (False, True))
    assert captured.told == [
        "Captured the training step as a CUDA graph, for batches of 4×1×24×24, 4×3×24×24."
    ]
    assert_same(device, plain.left, captured.left)
    # What is saved is what ordinary steps save.
    groups = captured.left["optimizers"]["generator"]["param_groups"]
    assert groups[0]["lr"] == 2.0**-11 and groups[0]["capturable"] is False
    assert ("grad_norm_g" in captured.left["logs"][-1]) == (case == "joint")


def other_parts(i, model, wrappers):
    """Others are frozen, and then there is a batch for which the pools have no room."""
    model.generator.encoder.requires_grad_(i >= 2)
    model.discriminator.blocks[0].requires_grad_(i < 2)
    return 7 if i == 5 else 4


def other_settings(i, model, wrappers):
    """One after each capture."""
    if i == 2:
        wrappers["generator"].optimizer.param_groups[0]["betas"] = (0.6, 0.999)
    elif i == 4:
        model.gan_loss.weights = (0.1, 0.2, 0.3)
    elif i == 6:
        model.identity_loss.loss.loss_weight = 2.0
    elif i == 8:
        wrappers["discriminator"].clip_grad_kwargs["max_norm"] = 0.1
    elif i == 10:
        model.contours_loss = None
    return 4


@pytest.mark.parametrize("change, steps, changes", [(other_parts, 8, 1), (other_settings, 11, 5)])
def test_what_changes_is_captured_again(device, change, steps, changes):
    options = dict(between=change, steps=steps, clip_grad=dict(max_norm=0.5))
    plain, captured = (train(device, captured, **options) for captured in (False, True))
    ends = captured.told.pop() if changes == CHANGES else ""
    assert ends.endswith("has changed 5 times.") == (changes == CHANGES)
    assert [text[:9] for text in captured.told] == ["Captured "] * (5 if ends else 3)
    assert_same(device, plain.left, captured.left)


def wait_for_values(i, model, wrappers):
    if i == 0:
        parse = model.parse_losses
        model.parse_losses = lambda losses: parse(losses if sum(losses.values()) > 0 else {})
    return 4


def test_a_step_that_waits_is_not_captured(device):
    options = dict(between=wait_for_values, steps=4)
    plain, captured = (train(device, captured, **options) for captured in (False, True))
    (sentence,) = captured.told
    assert sentence.startswith("The training step cannot be captured as a CUDA graph: ")
    assert "not permitted when stream is capturing" in sentence
    assert_same(device, plain.left, captured.left)


@pytest.mark.gpu
@pytest.mark.parametrize("adam", [dict(fused=False, foreach=True), dict(weight_decay=0.01)])
def test_other_forms_of_adam(adam):
    """Those that are not fused count their steps on the CPU, unless they are capturable."""
    plain, captured = (train("cuda", captured, **adam) for captured in (False, True))
    assert captured.told[0].startswith("Captured")
    assert_same("cuda", plain.left["weights"], captured.left["weights"])
