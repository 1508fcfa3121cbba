"""How many kernels a training step starts on a GPU, counted without one."""

from pathlib import Path

import pytest
import torch
from mmagic.registry import MODELS
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from simulated_gpu import without_values
from small_models import optimizers

CONFIGS = Path(__file__).parents[2] / "configs"


class NoStep(OptimWrapper):
    """An optimizer's kernels are a handful, and not on every device."""

    def step(self):
        pass


@pytest.fixture
def launches_of_a_step(monkeypatch):
    def count(n, size):
        model = MODELS.build(Config.fromfile(CONFIGS / "spynco_cifar10.py").model)
        # mmagic's preprocessor decides by the values of small tensors.
        model.data_preprocessor.forward = lambda data, training: dict(inputs=data)
        with without_values(monkeypatch, model) as launches:
            images = torch.empty(2, n, 3, size, size, device="meta")
            inputs = dict(zip(("img_gray", "img_color"), images))
            model.train_step(inputs, optimizers(model, cls=NoStep))
        return launches.count

    return count


def test_the_budget(launches_of_a_step):
    """Of the paper's model at 32×32 with its image pools, whatever the batch."""
    few, many = (launches_of_a_step(n, 32) for n in (4, 32))
    assert few == many <= 610
