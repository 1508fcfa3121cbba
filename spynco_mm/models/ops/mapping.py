"""Nearest interpolation of features to the output's size, then a convolution to few channels."""

import torch.nn.functional as F
from torch import Tensor

from .backend import exported
from .conv1x1 import conv1x1
from .upsample import upsample


def mapping(
    x: Tensor, weight: Tensor, bias: Tensor | None, times: int = 0, fast: bool = True
) -> Tensor:
    """A convolution of stride 1, with k // 2 zeros beyond the border, of 2^times-fold repetition.

    Fast: a transposed convolution with stride s = 2^times of the features is the convolution of
    their s-fold repetition if its kernel is the flipped one, summed over s shifts. In one
    dimension, with u[n] = x[n // s] and r = k // 2, the value x[m] is u[sm], ..., u[sm + s - 1], so
    it reaches y[sm + j - r] through

        T[j] = w[2r - j] + w[2r - j + 1] + ... + w[2r - j + s - 1],    j = 0, ..., k + s - 2

    Since the output has few channels, all (k + s - 1)² of them are one 1×1 convolution, and
    ``F.fold`` adds the results up where they belong. The wide features are never upsampled.

    Args:
        x: N×C_in×H×W.
        weight: C_out×C_in×k×k, k odd.
        bias: C_out, or None.
        times: How often the size is doubled.
        fast: Whether to use the fast form.

    Returns:
        N×C_out×sH×sW.
    """
    padding = weight.shape[2] // 2
    if not fast or exported():
        return F.conv2d(upsample(x, "nearest", times), weight, bias, padding=padding)
    scale = 2**times
    kernel = _spread(weight, scale)
    taps = conv1x1(x, kernel.flatten(0, 2)).flatten(2)
    size = (x.shape[-2] * scale, x.shape[-1] * scale)
    image = F.fold(taps, size, kernel.shape[1:3], padding=padding, stride=scale)
    return image if bias is None else image + bias[:, None, None]


def values_at_once(weight: Tensor) -> int:
    """Values per position of its output that :func:`mapping` holds at once, as measured: twice the
    features and the products of all taps.
    """
    c_out, c_in, k, _ = weight.shape
    return 2 * c_in + 2 * c_out * k * k


def _spread(weight: Tensor, scale: int) -> Tensor:
    """T of both dimensions, C_out×(k + s - 1)×(k + s - 1)×C_in."""
    kernel = weight.flip(2, 3).permute(0, 2, 3, 1)
    pads = [(shift, scale - 1 - shift) for shift in range(scale)]
    kernel = sum(F.pad(kernel, (0, 0, 0, 0, *pad)) for pad in pads)
    return sum(F.pad(kernel, (0, 0, *pad)) for pad in pads)
