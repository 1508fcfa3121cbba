"""Col-Cycle and mmagic's CycleGAN on our data, with our metric and on two processes."""

from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from forked import Forked, ranks
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
@pytest.mark.parametrize("data", ["cifar10", "ucmerced", "cezanne", "landscape", "folder", "demo"])
def test_everything_but_the_model_is_spyncogans(baseline, data):
    ours = Config.fromfile(f"configs/spynco_{data}.py")
    theirs = Config.fromfile(f"configs/{baseline}_{data}.py")
    for name in SHARED:
        assert theirs[name] == ours[name], name
    for player in ("generator", "discriminator"):
        assert theirs.optim_wrapper[f"{player}s"] == ours.optim_wrapper[player]
        assert player not in theirs.optim_wrapper
    # The weights of the output that both have (section 5.2).
    model = Config.fromfile("configs/spynco_cifar10.py").model
    assert theirs.model.loss_config.cycle_loss_weight == model.cycle_aba_loss.weights[0]
    assert theirs.model.loss_config.id_loss_weight == model.identity_loss.weights[0]
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


# SGD, since Adam makes steps of the rounding noise in the gradient of biases before instance norm;
# no pool, whose draws differ between processes.
SAME = """
_base_ = [{base!r}]
custom_imports = dict(imports=["spynco_mm", "save_ranks"], allow_failed_imports=False)
custom_hooks = [dict(type="SaveRanksHook"), dict(type="ExactResumeHook")]
sgd = dict(type="OptimWrapper", optimizer=dict(type="SGD", lr=1e-4))
optim_wrapper = dict(_delete_=True, constructor="MultiOptimWrapperConstructor",
    generators=sgd, discriminators=sgd)
model = dict(buffer_size=0)
train_cfg = dict(max_epochs=1)
val_cfg = val_dataloader = val_evaluator = None
train_dataloader = dict(batch_size={batch}, dataset=dict(
    crops_per_photo=6, photos=["chelsea", "immunohistochemistry"]))
default_hooks = dict(checkpoint=None)
"""
HOOK = """
import torch, os
from mmagic.registry import HOOKS
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner.checkpoint import get_state_dict
@HOOKS.register_module()
class SaveRanksHook(Hook):
    def before_train(self, runner):
        self.after_train(runner, "start")
    def after_train(self, runner, name="rank"):
        model = getattr(runner.model, "module", runner.model)
        state = {k: v.clone() for k, v in get_state_dict(model).items()}
        torch.save(state, os.path.join(runner.work_dir, f"{name}{get_rank()}.pth"))
"""


@pytest.mark.parametrize("baseline", BASELINES)
def test_two_processes_train_one_model(tmp_path, monkeypatch, baseline):
    (tmp_path / "save_ranks.py").write_text(HOOK)
    narrow = {
        "cyclegan": ["model.generator.base_channels=4", "model.discriminator.base_channels=4"],
        "colcycle": ["model.generator.base_channels=4", "model.discriminator.channels=(4,4,8,8)"],
    }[baseline]
    monkeypatch.syspath_prepend(tmp_path)
    base = str(Path(f"configs/{baseline}_demo.py").resolve())

    def command(name, batch):
        config = tmp_path / f"{name}.py"
        config.write_text(SAME.format(base=base, batch=batch))
        folder = str(tmp_path / name)
        return "tools/train.py", config, "--work-dir", folder, "--cfg-options", *narrow

    alone = Forked(*command("one", 4))
    together = ranks(*command("two", 2), "--launcher", "pytorch")
    for process in (alone, *together):
        assert process.returncode == 0, process.stdout[-3000:]
    one = torch.load(tmp_path / "one" / "rank0.pth")
    two = [torch.load(tmp_path / "two" / f"rank{i}.pth") for i in range(2)]
    start = torch.load(tmp_path / "two" / "start0.pth")
    for name in one:
        assert torch.equal(two[0][name], two[1][name]), name
    for network in ("generators.color", "generators.gray", "discriminators.color"):
        moved, apart = (
            sum((a[k] - b[k]).square().sum().item() for k in one if k.startswith(network)) ** 0.5
            for a, b in ((one, start), (one, two[0]))
        )
        # In float32 a ReLU after an instance norm can follow rounding, which takes another way with
        # each shape of batch; tests/engine compares in float64, to 1e-7. Without averaging the two
        # are as far apart as they move.
        assert moved > 1e-4 and apart < 2e-2 * moved, (network, moved, apart)
