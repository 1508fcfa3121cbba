"""Col-Cycle and mmagic's CycleGAN on our data, with our metric."""

from contextlib import contextmanager

import pytest
import torch
from mmagic.registry import MODELS
from mmagic.structures import DataSample
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import Runner
from torch import nn

import spynco_mm  # noqa: F401
from spynco_mm.engine.launch import enable_amp

BASELINES = ("cyclegan", "colcycle")
SHARED = (
    "train_dataloader",
    "val_dataloader",
    "val_evaluator",
    "train_cfg",
    "param_scheduler",
    "randomness",
    "custom_hooks",
    "model_wrapper_cfg",
)


@MODELS.register_module()
class TestIdentity(nn.Module):
    """Returns its input, times a factor per channel."""

    __test__ = False

    def __init__(self, factors=(1, 1, 1)):
        super().__init__()
        self.register_buffer("factors", torch.tensor(factors, dtype=torch.float32))

    def forward(self, x):
        return (x + 1) * self.factors[:, None, None] - 1

    def init_weights(self):
        pass


@pytest.mark.parametrize("baseline", BASELINES)
def test_everything_but_the_model_is_spyncogans(baseline):
    """tests/test_configs.py compares those of the other data sets with these."""
    ours = Config.fromfile("configs/spynco_demo.py")
    theirs = Config.fromfile(f"configs/{baseline}_demo.py")
    for name in SHARED:
        assert theirs[name] == ours[name], name
    for player in ("generator", "discriminator"):
        assert theirs.optim_wrapper[f"{player}s"] == ours.optim_wrapper[player]
        assert player not in theirs.optim_wrapper
    # The weights of the output that both have (section 5.2).
    assert theirs.model.loss_config.cycle_loss_weight == ours.model.cycle_aba_loss.weights[0]
    assert theirs.model.loss_config.id_loss_weight == ours.model.identity_loss.weights[0]
    assert theirs.model.buffer_size == ours.model.buffer_size
    MODELS.build(dict(theirs.model, _scope_="mmagic"))


def evaluate(tmp_path, generator):
    cfg = Config.fromfile("configs/cyclegan_demo.py")
    cfg.model.generator = generator
    cfg.work_dir = str(tmp_path)
    cfg.experiment_name = f"baseline_{generator['factors']}"
    cfg.default_hooks.checkpoint = None  # It only knows training.
    runner = Runner.from_cfg(cfg)
    return runner.val(), runner


def test_identity_generator_scores_as_the_grey_input(tmp_path):
    scores, _ = evaluate(tmp_path, dict(type="TestIdentity", factors=(1, 1, 1)))
    for name in ("MSE", "PSNR", "SSIM"):
        assert scores[f"G1/{name}"] == pytest.approx(scores[f"gray/{name}"], rel=1e-6)
    assert scores["gray/MSE"] > 100


def test_channels_are_in_one_order_in_training_and_evaluation(tmp_path):
    # Keeps only the first channel of what the network sees.
    _, runner = evaluate(tmp_path, dict(type="TestIdentity", factors=(1, 0, 0)))
    batch = next(iter(runner.val_dataloader))
    seen = runner.model.data_preprocessor(
        dict(inputs=dict(batch["inputs"]), data_samples=[s.clone() for s in batch["data_samples"]]),
        True,
    )["inputs"]["img_color"]
    with torch.no_grad():
        sample = runner.model.val_step(batch)[0]
    # The first channel of the network's colour images is that of the metric's.
    torch.testing.assert_close((seen[0, 0] + 1) * 127.5, sample.img_color[0].float())
    gray = sample.img_gray[0].float()
    torch.testing.assert_close(sample.fake_color[0], gray, atol=1e-3, rtol=0)
    assert sample.fake_color[1:].abs().max() < 1e-3


def test_amp_reaches_both_optimizers(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for baseline in BASELINES:
        cfg = Config.fromfile(f"configs/{baseline}_cifar10.py")
        enable_amp(cfg, "float16")
        for player in ("generators", "discriminators"):
            assert cfg.optim_wrapper[player].type == "AmpOptimWrapper"
            assert cfg.optim_wrapper[player].loss_scale == "dynamic"


class Autocast(OptimWrapper):
    """What AmpOptimWrapper does with bfloat16, on a CPU."""

    @contextmanager
    def optim_context(self, model):
        with super().optim_context(model), torch.autocast("cpu", torch.bfloat16):
            yield


@pytest.mark.parametrize("baseline", BASELINES)
def test_training_step_in_mixed_precision(baseline):
    cfg = Config.fromfile(f"configs/{baseline}_demo.py")
    MessageHub.get_instance("amp").update_info("iter", 0)
    torch.manual_seed(0)
    model = MODELS.build(dict(cfg.model, _scope_="mmagic"))
    model.init_weights()
    wrappers = OptimWrapperDict(
        **{
            name: Autocast(torch.optim.Adam(getattr(model, name).parameters(), lr=2e-4))
            for name in ("generators", "discriminators")
        }
    )
    before = [p.clone() for p in model.parameters()]
    images = {f"img_{name}": torch.rand(2, 3, 32, 32) * 255 for name in ("gray", "color")}
    batch = dict(inputs=images, data_samples=[DataSample(), DataSample()])
    model.data_preprocessor.data_keys = []
    losses = model.train_step(batch, wrappers)
    assert all(torch.as_tensor(value).isfinite() for value in losses.values())
    moved = [not torch.equal(a, b) for a, b in zip(before, model.parameters())]
    # All but the biases before instance norm, whose gradient is 0.
    assert sum(moved) > len(moved) / 2
    assert all(p.dtype == torch.float32 for p in model.parameters())
