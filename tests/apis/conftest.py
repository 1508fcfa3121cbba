import numpy as np
import pytest
from skimage import data

from spynco_mm.apis import Colorizer


@pytest.fixture(scope="session")
def colorize(tiny_checkpoint):
    return Colorizer(tiny_checkpoint, device="cpu")


@pytest.fixture(scope="session")
def photo():
    """A real colour photograph, 75×112."""
    return np.ascontiguousarray(data.chelsea()[::4, ::4])
