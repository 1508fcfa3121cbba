"""What mmengine has to offer beside our configs, in a line of a config each."""

from importlib.util import find_spec

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

from spynco_mm.apis import Colorizer

BACKENDS = {
    "tensorboard": "dict(type='TensorboardVisBackend')",
    "wandb": "dict(type='WandbVisBackend', init_kwargs=dict(mode='offline'))",
    "aim": "dict(type='mmengine.AimVisBackend', init_kwargs=dict(repo='.'))",
}
CONFIG = """
_base_ = ['spynco_mm::spynco_exact_demo.py']
custom_hooks = [*_base_.custom_hooks, dict(type='EMAHook', momentum=0.5)]
visualizer = dict(vis_backends=[{backends}])

model = dict(
    generator=dict(base_channels=2, num_blocks=1), discriminator=dict(channels=(2, 2, 2, 2))
)
train_dataloader = dict(dataset=dict(crops_per_photo=1))
val_dataloader = dict(dataset=dict(crops_per_photo=1))
train_cfg = dict(max_epochs=2, val_interval=1)
default_hooks = dict(logger=dict(interval=1))
log_level = 'ERROR'
"""


class Keep(Hook):
    """The generator as it was last trained, and as it was last evaluated."""

    def after_train_iter(self, runner, *args, **kwargs):
        self.trained = weights(runner.model.generator)

    def before_val_iter(self, runner, *args, **kwargs):
        self.evaluated = weights(runner.model.generator)


def weights(generator):
    return {name: value.clone() for name, value in generator.state_dict().items()}


def train(work_dir, backends=(), **options):
    """Two epochs of two iterations of a very narrow network."""
    work_dir.mkdir(exist_ok=True)
    (work_dir / "config.py").write_text(CONFIG.format(backends=", ".join(backends)))
    cfg = Config.fromfile(work_dir / "config.py")
    cfg.merge_from_dict(dict(work_dir=str(work_dir), experiment_name=work_dir.name, **options))
    keep, runner = Keep(), Runner.from_cfg(cfg)
    runner.register_hook(keep, priority="VERY_LOW")
    runner.train()
    runner.visualizer.close()
    return keep


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Its folder, and what it kept."""
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)  # where Aim writes
        patch.setenv("WANDB_SILENT", "true")
        installed = [line for name, line in BACKENDS.items() if find_spec(name)]
        return folder, train(folder, installed)


def test_averages_are_evaluated_saved_and_colorize(run, tmp_path):
    """The training goes on with its own weights."""
    folder, keep = run
    saved = torch.load(folder / "epoch_2.pth")
    for name, average in keep.evaluated.items():
        assert torch.equal(saved["state_dict"][f"generator.{name}"], average)
        last = saved["ema_state_dict"][f"module.generator.{name}"]
        assert torch.equal(last, keep.trained[name])
    assert any(not torch.equal(v, keep.trained[name]) for name, v in keep.evaluated.items())

    colorizer = Colorizer(folder / "epoch_2.pth", device="cpu")
    for name, value in colorizer.generator.state_dict().items():
        assert torch.equal(value, keep.evaluated[name])

    again = train(tmp_path / "again", resume=True, load_from=str(folder / "epoch_1.pth"))
    for name, value in keep.trained.items():
        assert torch.equal(again.trained[name], value)
        assert torch.equal(again.evaluated[name], keep.evaluated[name])


@pytest.mark.parametrize("name", BACKENDS)
def test_a_line_says_where_the_log_goes(name, run):
    pytest.importorskip(name)
    folder, _ = run
    wanted = {"loss_gan_g", "loss_cycle_bab", "G1/MSE"}
    if name == "tensorboard":
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        (events,) = folder.rglob("events.out.tfevents.*")
        found = EventAccumulator(str(events)).Reload().Tags()["scalars"]
    else:
        # Theirs are data bases, which hold the names as they are.
        place = "offline-run-*/*.wandb" if name == "wandb" else ".aim/meta/**/*.sst"
        content = b"".join(file.read_bytes() for file in folder.rglob(place))
        found = [tag for tag in wanted if tag.encode() in content]
    assert wanted <= set(found)
