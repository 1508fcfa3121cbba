import math

import numpy as np
import pytest
import torch
from skimage.color import deltaE_ciede2000, rgb2lab
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from spynco_mm.evaluation import (
    chroma_concordance,
    ciede2000,
    colorfulness,
    mse,
    mse_uint8,
    psnr,
    rgb_to_lab,
    ssim,
)

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


def test_mse_in_bytes_is_numpys():
    a, b = batch((3, 3, 16, 16), 5), batch((3, 3, 16, 16), 6)
    bytes_a, bytes_b = (x.round().to(torch.uint8).numpy() for x in (a, b))
    expected = np.mean((bytes_a - bytes_b) ** 2, axis=(1, 2, 3))
    assert mse_uint8(a, b).tolist() == pytest.approx(expected.tolist(), abs=1e-12)
    assert mse_uint8(b, a).tolist() == mse_uint8(a, b).tolist()
    assert (expected < mse(a, b).numpy()).all()
    # What evenly spread errors give, as its documentation says, and an error of 16.
    errors = torch.arange(256.0).view(1, 1, 16, 16)
    assert mse_uint8(errors, torch.zeros(1, 1, 16, 16)).item() == 105.5
    assert mse_uint8(torch.full((1, 1, 2, 2), 16.4), torch.zeros(1, 1, 2, 2)).item() == 0


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


# ------------------------------------------------------------------------------------- colour


def test_ciede2000_equal_to_scikit_image():
    a, b = batch((8, 3, 16, 16), 1), batch((8, 3, 16, 16), 2)
    a[1], b[2] = a[1, :1], b[2, :1]  # grey against colour, either way
    a[3], b[3] = a[3, :1], b[3, :1]
    b[4] = (a[4] + 0.01).clamp(0, 255)  # hardly different, and not at all
    b[5] = a[5]
    b[6] = a[6].flip(0)  # all hues
    generator = torch.Generator().manual_seed(3)
    a[7], b[7] = (torch.randint(0, 2, (2, 3, 16, 16), generator=generator) * 255).double()
    lab = [rgb2lab((x / 255).permute(0, 2, 3, 1).numpy()) for x in (a, b)]
    ours = [rgb_to_lab(x) for x in (a, b)]
    np.testing.assert_allclose(ours[0].permute(0, 2, 3, 1), lab[0], atol=1e-10)
    expected = deltaE_ciede2000(*lab).mean((1, 2))
    np.testing.assert_allclose(ciede2000(*ours), expected, atol=1e-9)
    single = ciede2000(*(rgb_to_lab(x.float()) for x in (a, b)))
    np.testing.assert_allclose(single, expected, atol=1e-4)


def test_ciede2000_of_sharmas_pairs():
    """Pairs 1, 4, 10, 17, 19 and 34 of table 1 of Sharma et al. 2005."""
    rows = [
        (50.0, 2.6772, -79.7751, 50.0, 0.0, -82.7485, 2.0425),
        (50.0, -1.3802, -84.2814, 50.0, 0.0, -82.7485, 1.0000),
        (50.0, 2.4900, -0.0010, 50.0, -2.4900, 0.0011, 7.2195),
        (50.0, 2.5, 0.0, 73.0, 25.0, -18.0, 27.1492),
        (50.0, 2.5, 0.0, 56.0, -27.0, -3.0, 31.9030),
        (2.0776, 0.0795, -1.1350, 0.9033, -0.0636, -0.5514, 0.9082),
    ]
    for *values, expected in rows:
        a, b = torch.tensor(values, dtype=torch.float64).view(2, 1, 3, 1, 1)
        assert ciede2000(a, b).item() == pytest.approx(expected, abs=5e-5)


def test_colorfulness_by_hand():
    # Left half red, right half cyan: rg = ±255, yb = ±127.5 about 0.
    image = torch.zeros(1, 3, 8, 8)
    image[:, 0, :, :4], image[:, 1:, :, 4:] = 255, 255
    assert colorfulness(image).item() == pytest.approx(math.hypot(255, 127.5))
    # One tint has no spread, and its mean counts 0.3. The opponents are signed: |rg| would have
    # found none in the picture above.
    image[:] = torch.tensor([100.0, 50.0, 0.0]).view(3, 1, 1)
    assert colorfulness(image).item() == pytest.approx(0.3 * math.hypot(50, 75))
    assert colorfulness(torch.full((1, 3, 8, 8), 99.0)).item() == 0


def test_concordance_is_not_won_by_grey():
    real = rgb_to_lab(batch((4, 3, 16, 16), 1))
    grey = real * torch.tensor([1.0, 0.0, 0.0]).view(3, 1, 1)
    noise = rgb_to_lab(batch((4, 3, 16, 16), 2))
    assert chroma_concordance(real, real).tolist() == pytest.approx([1] * 4)
    assert chroma_concordance(grey, real).tolist() == [0] * 4
    assert chroma_concordance(real, grey).tolist() == [0] * 4  # no colour to find
    # Half right: any strength beats grey, and the real strength is the best.
    mixed = (real + noise) / 2
    size, wanted = (x[:, 1:].flatten(1).norm(dim=1).view(-1, 1, 1, 1) for x in (mixed, real))
    mixed[:, 1:] *= wanted / size
    scores = []
    for strength in (0.3, 1, 3):
        image = torch.cat([mixed[:, :1], strength * mixed[:, 1:]], 1)
        scores.append(chroma_concordance(image, real))
    assert (torch.stack(scores) > 0.1).all()
    assert (scores[1] > scores[0]).all() and (scores[1] > scores[2]).all()
    assert (chroma_concordance(-real, real) < -0.99).all()


def test_colours_need_three_channels():
    for function in (colorfulness, rgb_to_lab):
        with pytest.raises(ValueError, match=r"RGB images N×3×H×W are needed, got \(2, 1, 8, 8\)"):
            function(torch.zeros(2, 1, 8, 8))
