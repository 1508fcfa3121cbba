import gc
import os
from pathlib import Path

# Two cores, often shared: more threads only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "2")

import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

import spynco_mm  # noqa: F401  (registers everything)

# mmengine collects garbage for every data set it builds, and so would look through all of torch.
gc.freeze()


@pytest.fixture(autouse=True)
def mmagic_scope():
    """Configs say ``type='CycleGAN'`` without a prefix, as under a Runner."""
    init_default_scope("mmagic")


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory):
    """A checkpoint that a Runner saved: exact consistency, two epochs of a very narrow network."""
    cfg = Config.fromfile(Path(__file__).parents[1] / "configs" / "spynco_exact_demo.py")
    cfg.merge_from_dict(
        {
            "work_dir": str(tmp_path_factory.mktemp("tiny_checkpoint")),
            "experiment_name": "tiny_checkpoint",
            "model.generator.base_channels": 4,
            "model.generator.num_blocks": 2,
            "model.discriminator.channels": (4, 8, 8, 8),
            "train_dataloader.dataset.crops_per_photo": 2,
            "train_cfg.max_epochs": 2,
            "log_level": "WARNING",
        }
    )
    Runner.from_cfg(cfg).train()
    return Path(cfg.work_dir, "epoch_2.pth")
