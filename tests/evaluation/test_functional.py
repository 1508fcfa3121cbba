import math

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from spynco_mm.evaluation import mse, psnr, ssim

SKIMAGE = {
    "uniform": {},
    "gaussian": dict(gaussian_weights=True, sigma=1.5, use_sample_covariance=False),
}


def batch(shape, seed):
    """Smooth images with noise, so that SSIM is neither 0 nor 1."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(shape[0], shape[1], 4, 4, generator=generator, dtype=torch.float64)
    smooth = torch.nn.functional.interpolate(coarse, shape[2:], mode="bilinear")
    noise = torch.rand(shape, generator=generator, dtype=torch.float64)
    return (200 * smooth + 55 * noise).clamp(0, 255)


def test_hand_worked_numbers():
    a = torch.zeros(2, 3, 8, 8)
    b = torch.zeros(2, 3, 8, 8)
    b[0, 0] = 3  # 9 in one of three channels
    b[1] = 255
    assert mse(a, b).tolist() == [3.0, 65025.0]
    assert psnr(a, b).tolist() == pytest.approx([10 * math.log10(65025 / 3), 0.0])
    # Constant images have no variance: (2xy + c1) / (x² + y² + c1), with y = 0 and c1 = 6.5025.
    c1 = 6.5025
    assert ssim(a, b).tolist() == pytest.approx([(2 + c1 / (9 + c1)) / 3, c1 / (65025 + c1)])


def test_identical_images():
    a = batch((2, 3, 16, 16), 0)
    assert mse(a, a).tolist() == [0, 0]
    assert psnr(a, a).tolist() == [math.inf, math.inf]
    assert ssim(a, a).tolist() == pytest.approx([1, 1], abs=1e-12)


@pytest.mark.parametrize("window", ["uniform", "gaussian"])
@pytest.mark.parametrize("shape", [(5, 3, 32, 32), (1, 3, 11, 40), (2, 1, 47, 33)])
def test_equal_to_scikit_image(shape, window):
    a, b = batch(shape, 1), batch(shape, 2)
    expected = [
        structural_similarity(x, y, channel_axis=0, data_range=255, **SKIMAGE[window])
        for x, y in zip(a.numpy(), b.numpy())
    ]
    assert ssim(a, b, window=window).numpy() == pytest.approx(expected, abs=1e-6)
    assert 0.01 < np.mean(expected) < 0.99
    expected = [peak_signal_noise_ratio(x, y, data_range=255) for x, y in zip(a.numpy(), b.numpy())]
    assert psnr(a, b).numpy() == pytest.approx(expected, abs=1e-9)


def test_data_range():
    a, b = batch((2, 3, 32, 32), 1), batch((2, 3, 32, 32), 2)
    assert ssim(a / 255, b / 255, data_range=1).tolist() == pytest.approx(ssim(a, b).tolist())
    assert psnr(a / 255, b / 255, data_range=1).tolist() == pytest.approx(psnr(a, b).tolist())


def test_bytes_do_not_wrap_around():
    a = torch.full((1, 3, 8, 8), 10, dtype=torch.uint8)
    b = torch.full((1, 3, 8, 8), 20, dtype=torch.uint8)
    assert mse(a, b).item() == 100


@pytest.mark.parametrize("window, size", [("uniform", 7), ("gaussian", 11)])
def test_images_smaller_than_the_window(window, size):
    fits, small = torch.zeros(1, 3, size, size), torch.zeros(1, 3, 32, size - 1)
    assert ssim(fits, fits, window=window).item() == 1
    with pytest.raises(ValueError, match=f"at least {size}×{size} pixels, got 32×{size - 1}"):
        ssim(small, small, window=window)


def test_wrong_arguments():
    a = torch.zeros(1, 3, 8, 8)
    with pytest.raises(ValueError, match=r"got \(1, 3, 8, 8\) and \(1, 1, 8, 8\)"):
        mse(a, a[:, :1])
    with pytest.raises(ValueError, match="one of uniform, gaussian, got 'hann'"):
        ssim(a, a, window="hann")
