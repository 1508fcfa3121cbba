"""Every config of the repository, or its parts, trained for two steps; and the paper's numbers."""

import pickle
import re
import sys
from pathlib import Path
from types import MethodType, SimpleNamespace

import numpy as np
import pytest
import skimage.data
import torch
from mmagic.registry import MODELS
from mmengine.config import Config
from mmengine.runner import Runner
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from spynco_mm.engine import launch

sys.path.insert(0, str(Path(__file__).parent / "datasets"))
from cifar10_files import write_cifar10

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.py"))
# The paper trains on these (section 5.1); what else there is, is not the paper's.
PAPER = [
    path
    for path in CONFIGS
    if path.stem.split("_")[-1] in ("cifar10", "ucmerced", "cezanne", "landscape")
    and path.stem.startswith("spynco_")
]
assert len(PAPER) == 8
# Each data set with one model and each model with one data set: all others are made of these parts.
TRAINED = [path for path in CONFIGS if re.fullmatch(r"spynco_[a-z0-9]+|.*_demo", path.stem)]


@pytest.fixture(scope="module")
def data_root(tmp_path_factory):
    """All data sets, tiny and in their real formats: crops of photographs."""
    root = tmp_path_factory.mktemp("data")
    photos = [skimage.data.chelsea(), skimage.data.coffee()]
    rng = np.random.default_rng(0)

    def crop(side):
        photo = photos[rng.integers(2)]
        y, x = (rng.integers(0, length - side) for length in photo.shape[:2])
        return photo[y : y + side, x : x + side]

    cifar = root / "cifar-10-batches-py"
    write_cifar10(cifar, per_file=13)  # 65 training images: two batches of 32
    for file in cifar.glob("*_batch*"):
        content = pickle.loads(file.read_bytes())
        planes = [crop(32).transpose(2, 0, 1).reshape(-1) for _ in content["labels"]]
        file.write_bytes(pickle.dumps(dict(content, data=np.stack(planes))))
    for folder in ("trainA", "trainB", "testA", "testB"):
        for i in range(3):
            path = root / "cezanne2photo" / folder / f"{i}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(crop(256)).save(path)
    for i in range(25):  # 20 for training, two batches of 8
        path = root / "photographs" / f"{i}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(crop(72)).save(path)
    for name in ("agricultural", "airplane"):
        for i in range(4):
            path = root / "UCMerced_LandUse" / "Images" / name / f"{name}{i:02d}.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(crop(256 - i)).save(path)
    return root


def narrow(cfg):
    """The same networks with fewer filters, for speed."""
    for part in (cfg.model.generator, cfg.model.get("discriminator") or {}):
        if "base_channels" in part:
            part.base_channels = 4
        if "channels" in part:
            part.channels = (4, 4, 8, 8)
        if "num_blocks" in part:
            part.num_blocks = 1


@pytest.mark.parametrize("path", sorted({*CONFIGS} - {*TRAINED}), ids=lambda path: path.stem)
def test_is_made_of_parts_that_are_trained(path):
    model, data = path.stem.rsplit("_", 1)
    names = (path.stem, f"{model}_demo", f"spynco_{data}")
    cfg, same_model, same_data = (Config.fromfile(path.with_stem(name)) for name in names)
    narrow(cfg)
    narrow(same_model)
    assert cfg.model == same_model.model and cfg.optim_wrapper == same_model.optim_wrapper
    own = {"model", "optim_wrapper"}
    assert {key: cfg[key] for key in cfg if key not in own} == {
        key: same_data[key] for key in cfg if key not in own
    }


@pytest.mark.parametrize("path", TRAINED, ids=lambda path: path.stem)
def test_trains_and_evaluates(path, data_root, tmp_path):
    cfg = launch.load_config(str(path), str(tmp_path))
    narrow(cfg)
    for name in ("train", "val", "test"):
        loader = cfg[f"{name}_dataloader"]
        loader.update(num_workers=0, persistent_workers=False)
        loader.dataset["indices"] = 2 * loader.batch_size if name == "train" else 2
        if "size" in loader.dataset:
            loader.dataset.size = 64
        if "data_root" in loader.dataset:
            relative = Path(loader.dataset.data_root).relative_to("data")
            loader.dataset.data_root = str(data_root / relative)
    cfg.train_cfg.update(max_epochs=1, val_interval=1)
    cfg.experiment_name = str(tmp_path)
    cfg.param_scheduler = None  # Of its own test.
    runner = Runner.from_cfg(cfg)
    launch.check_train_data(runner)
    before = {key: value.clone() for key, value in runner.model.state_dict().items()}
    runner.train()
    assert runner.iter == 2
    after = runner.model.state_dict()
    changed = {key.split(".")[0] for key in after if not torch.equal(before[key], after[key])}
    assert {"generator", "discriminator"} <= changed or {"generators", "discriminators"} <= changed
    assert all(torch.isfinite(value).all() for value in after.values())
    saved = {file.name for file in tmp_path.iterdir()}
    assert {"epoch_1.pth", "results.json", "pyramid.png"} <= saved
    assert any(name.startswith("best_G1_projected_concordance") for name in saved)
    runner.test()


@pytest.mark.parametrize("path", PAPER, ids=lambda path: path.stem)
def test_numbers_of_the_paper(path):
    """Sections 4.3 and 5.2, and the parameter counts in table 1's caption's rounding."""
    cfg = Config.fromfile(path)
    exact = "exact" in path.stem
    model = MODELS.build(cfg.model)
    count = {
        name: sum(p.numel() for p in getattr(model, name).parameters())
        for name in ("generator", "discriminator")
    }
    # Without its norms, the discriminator has no scale and shift of 128 + 256 + 512 channels.
    assert count == dict(generator=4_977_923, discriminator=2_084_801 - 2 * 896 * exact)
    assert not list(model.handcrafted_translation.parameters())

    assert model.cycle_bab_loss.weights == (10, 6, 4)
    assert model.gan_loss.weights == (1, 1, 1)
    assert model.gan_loss.loss.gan_type == "lsgan"
    if exact:
        assert model.cycle_aba_loss is None and model.contours_loss is None
        assert model.identity_loss is None and model.generator.consistency is not None
        assert type(model.cycle_bab_loss.loss).__name__ == "MSELoss"
    else:
        assert model.identity_loss.weights == (5, 3, 2)
        assert model.cycle_aba_loss.weights == (10, 6, 4)
        assert model.contours_loss.weights == (1, 0, 0)
        assert model.generator.consistency is None
        for name in ("identity_loss", "cycle_bab_loss"):
            assert type(getattr(model, name).loss).__name__ == "L1Loss"

    for name in count:
        wrapper = cfg.optim_wrapper[name]
        assert wrapper.type == "OptimWrapper"
        lr = 5e-5 if exact and name == "discriminator" else 2e-4
        assert dict(wrapper.optimizer) == dict(type="Adam", lr=lr, betas=(0.5, 0.999), fused=True)
    assert cfg.train_cfg.max_epochs == (50 if "landscape" in path.stem else 100)
    assert cfg.train_cfg.val_interval == 10
    assert cfg.train_dataloader.batch_size == (32 if "cifar10" in path.stem else 1)
    assert cfg.randomness.seed == 0


@pytest.mark.parametrize("path", PAPER, ids=lambda path: path.stem)
def test_schedule(path):
    """Section 6.2.2: constant for half the epochs, then linear to 0."""
    cfg = Config.fromfile(path)
    epochs, batches = cfg.train_cfg.max_epochs, 10
    # As much of a runner as the building of optimizers and schedulers looks at.
    networks = nn.ModuleDict(dict(generator=nn.Linear(1, 1), discriminator=nn.Linear(1, 1)))
    networks.generator, networks.discriminator = networks["generator"], networks["discriminator"]
    runner = SimpleNamespace(
        model=networks, train_dataloader=range(batches), _train_loop=cfg.train_cfg
    )
    runner._build_param_scheduler = MethodType(Runner._build_param_scheduler, runner)
    runner.optim_wrapper = Runner.build_optim_wrapper(runner, cfg.optim_wrapper)
    for scheduler in cfg.param_scheduler:
        scheduler.setdefault("end", epochs)  # as a Runner does
    schedulers = Runner.build_param_scheduler(runner, cfg.param_scheduler)
    # mmengine reaches 0 with the last iteration, not after it.
    tolerance = 2e-4 / (epochs // 2 * batches - 1)
    seen = {}
    for epoch in range(epochs):
        seen[epoch] = runner.optim_wrapper.get_lr()
        for wrapper in runner.optim_wrapper.values():
            wrapper.optimizer.step()
        for _ in range(batches):
            for scheduler in (s for group in schedulers.values() for s in group):
                scheduler.step()
    for epoch, lrs in seen.items():
        for name in ("generator", "discriminator"):
            lr = cfg.optim_wrapper[name].optimizer.lr
            expected = lr * min(1, (epochs - epoch) / (epochs / 2))
            assert lrs[f"{name}.lr"] == pytest.approx([expected], abs=tolerance), epoch
    assert runner.optim_wrapper.get_lr()["generator.lr"] == [0]


def test_tensorboard_by_one_option(tmp_path):
    """What configs/_base_/default_runtime.py says to write."""
    option = {"visualizer.vis_backends.0.type": "TensorboardVisBackend"}
    path = next(path for path in CONFIGS if path.stem == "spynco_demo")
    cfg = launch.load_config(str(path), str(tmp_path), option)
    narrow(cfg)
    cfg.train_dataloader.dataset.indices = cfg.train_dataloader.batch_size
    cfg.train_cfg.update(max_epochs=1, val_interval=1)
    cfg.default_hooks.logger.interval = 1
    cfg.param_scheduler = None
    cfg.experiment_name = str(tmp_path)
    runner = Runner.from_cfg(cfg)
    runner.train()
    runner.visualizer.close()
    (events,) = tmp_path.rglob("events.out.tfevents.*")
    log = EventAccumulator(str(events.parent)).Reload()
    logged = runner.message_hub.get_scalar("train/loss_g").current()
    assert log.Scalars("loss_g")[0].value == pytest.approx(logged)
    assert "G1/MSE" in log.Tags()["scalars"]
    (grid,) = log.Images("pyramid")
    with Image.open(tmp_path / "pyramid.png") as png:
        assert (grid.width, grid.height) == png.size
