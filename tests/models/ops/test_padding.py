import numpy as np
import pytest
import torch

from spynco_mm.models.ops.padding import pad_to_fit

SIZES = [(1, 1), (1, 9), (2, 5), (5, 3), (15, 15), (17, 30), (16, 20)]


def expected(image):
    want = [max(16, -(-side // 4) * 4) for side in image.shape[2:]]
    margin = [(0, 0), (0, 0), *((0, w - side) for w, side in zip(want, image.shape[2:]))]
    return np.pad(image, margin, "reflect")


@pytest.mark.parametrize("size", SIZES)
def test_it_is_a_reflection(size):
    image = torch.rand(2, 1, *size)
    np.testing.assert_array_equal(pad_to_fit(image, 4, 16), expected(image))


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_recorded_for_any_size():
    recorded = torch.jit.trace(lambda x: pad_to_fit(x, 4, 16), torch.rand(2, 1, 15, 14))
    for size in SIZES:
        image = torch.rand(2, 1, *size)
        np.testing.assert_array_equal(recorded(image), expected(image))
