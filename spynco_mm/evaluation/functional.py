"""Image distances of section 5.3 of the paper, one number per image, in double precision."""

import math

import torch
from torch import Tensor

WINDOW_SIZES = {"uniform": 7, "gaussian": 11}
GAUSSIAN_SIGMA = 1.5


def _same_shape(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    if a.ndim != 4 or a.shape != b.shape:
        raise ValueError(
            f"Two batches N×C×H×W of one shape are needed, got {tuple(a.shape)} and "
            f"{tuple(b.shape)}."
        )
    return a.double(), b.double()


def mse(a: Tensor, b: Tensor) -> Tensor:
    """Mean square error over channels and pixels.

    Args:
        a: N×C×H×W, any range.
        b: N×C×H×W, the same range.

    Returns:
        N values in float64, in the square of the images' unit.

    Raises:
        ValueError: The shapes differ or are not N×C×H×W.
    """
    a, b = _same_shape(a, b)
    return (a - b).square().mean(dim=(1, 2, 3))


def psnr(a: Tensor, b: Tensor, data_range: float = 255) -> Tensor:
    """Peak signal-to-noise ratio, 10 log10(data_range² / MSE).

    Args:
        a: N×C×H×W, 0 to ``data_range``.
        b: N×C×H×W, 0 to ``data_range``.
        data_range: Largest minus smallest possible value.

    Returns:
        N values in float64, in dB; infinite for identical images.

    Raises:
        ValueError: The shapes differ or are not N×C×H×W.
    """
    return 10 * torch.log10(data_range**2 / mse(a, b))


def _taps(window: str) -> list[float]:
    """The 1-D window, which sums to 1. Both windows of scikit-image are separable."""
    if window not in WINDOW_SIZES:
        raise ValueError(f"window must be one of {', '.join(WINDOW_SIZES)}, got '{window}'.")
    size = WINDOW_SIZES[window]
    if window == "uniform":
        return [1 / size] * size
    weights = [math.exp(-(((i - size // 2) / GAUSSIAN_SIGMA) ** 2) / 2) for i in range(size)]
    return [weight / sum(weights) for weight in weights]


def _window_mean(image: Tensor, taps: list[float]) -> Tensor:
    """Weighted mean in every window that lies inside the image: H×W → (H−k+1)×(W−k+1).

    Sums shifted views: in double precision on a CPU 18 times as fast as ``conv2d`` and twice as
    fast as ``avg_pool2d`` (1920 images of 32×32), with the same numbers to rounding.
    """
    for dim in (2, 3):
        length = image.shape[dim] - len(taps) + 1
        views = [image.narrow(dim, i, length) for i in range(len(taps))]
        image = views[0] * taps[0]
        for view, tap in zip(views[1:], taps[1:]):
            image.add_(view, alpha=tap)
    return image


def ssim(a: Tensor, b: Tensor, data_range: float = 255, window: str = "uniform") -> Tensor:
    """Structural similarity, mean over channels and over windows inside the image.

    Equal to ``skimage.metrics.structural_similarity(channel_axis=..., data_range=data_range)``:
    ``'uniform'`` to its defaults (7×7 uniform window, sample covariance), ``'gaussian'`` to
    ``gaussian_weights=True, sigma=1.5, use_sample_covariance=False`` (11×11 window), the setting
    of Wang et al. 2004. On 32×32 images the two differ by up to 0.03.

    Args:
        a: N×C×H×W, 0 to ``data_range``.
        b: N×C×H×W, 0 to ``data_range``.
        data_range: Largest minus smallest possible value.
        window: ``'uniform'`` or ``'gaussian'``.

    Returns:
        N values in float64, at most 1; 1 for identical images.

    Raises:
        ValueError: The shapes differ or are not N×C×H×W, the window is unknown, or the images are
            smaller than it.
    """
    a, b = _same_shape(a, b)
    taps = _taps(window)
    if min(a.shape[2:]) < len(taps):
        raise ValueError(
            f"SSIM with the {window} window needs images of at least {len(taps)}×{len(taps)} "
            f"pixels, got {a.shape[2]}×{a.shape[3]}."
        )
    pixels = len(taps) ** 2
    unbiased = pixels / (pixels - 1) if window == "uniform" else 1.0
    mean_a, mean_b = _window_mean(a, taps), _window_mean(b, taps)
    var_a = unbiased * (_window_mean(a * a, taps) - mean_a * mean_a)
    var_b = unbiased * (_window_mean(b * b, taps) - mean_b * mean_b)
    cov = unbiased * (_window_mean(a * b, taps) - mean_a * mean_b)
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    similarity = ((2 * mean_a * mean_b + c1) * (2 * cov + c2)) / (
        (mean_a * mean_a + mean_b * mean_b + c1) * (var_a + var_b + c2)
    )
    return similarity.mean(dim=(1, 2, 3))
