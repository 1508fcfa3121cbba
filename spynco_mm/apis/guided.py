"""Chroma of a reduced copy at full resolution, along the edges of the full-resolution grey."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

#: Variance of the grey, in squared levels of 255, below which it says little about the chroma.
NOISE = 200.0


def mean3(x: Tensor) -> Tensor:
    """Mean of the 3×3 neighbours."""
    return F.avg_pool2d(F.pad(x, [1, 1, 1, 1], mode="replicate"), 3, 1)


def bicubic(x: Tensor, size: Sequence[int]) -> Tensor:
    """At another size, antialiased: to a larger one that is the same, and twice as fast."""
    return F.interpolate(x, size, mode="bicubic", antialias=True)


def _slopes(chroma: Tensor, gray: Tensor) -> Tensor:
    r"""How much of each channel of the chroma changes with the grey, around every pixel.

    The slope of the guided filter (He, Sun and Tang 2013), cov(I, c) / (var I + ε) in 3×3 pixels,
    times :math:`\rho^4` of the correlation ρ of chroma and grey: where the chroma is not a function
    of the grey, as in a texture of one colour, the grey must not draw on it.
    """
    gray_mean, chroma_mean = mean3(gray), mean3(chroma)
    gray_var = (mean3(gray * gray) - gray_mean.square()).clamp_min_(0)
    chroma_var = (mean3(chroma * chroma) - chroma_mean.square()).sum(1, keepdim=True)
    covariance = mean3(gray * chroma) - gray_mean * chroma_mean
    both = (gray_var + 1) * (chroma_var.clamp_min_(0) + 1)
    share = (covariance.square().sum(1, keepdim=True) / both).clamp_(max=1)
    return mean3(covariance / (gray_var + NOISE) * share.square())


def guided_resize(chroma: Tensor, gray: Tensor) -> Tensor:
    r"""Chroma at the size of the grey picture.

    .. math:: C = c{\uparrow} + a{\uparrow} (I - I_0{\uparrow})

    with the chroma c and the grey :math:`I_0` of the reduced copy, and the slopes a: bicubic
    enlargement, plus what the full-resolution grey I has beyond it, where chroma goes with grey. A
    joint upsampling in the residual form of the guided filter's. What is larger than the grey
    picture is only reduced.

    Args:
        chroma: N×C×h×w, what H_t does not see of colours in [0, 255].
        gray: N×C_A×H×W in [0, 255].

    Returns:
        N×C×H×W, to be projected.
    """
    size = tuple(gray.shape[2:])
    if tuple(chroma.shape[2:]) == size:
        return chroma
    if any(old > new for old, new in zip(chroma.shape[2:], size)):
        return bicubic(chroma, size)
    guide = gray.mean(1, keepdim=True)
    small = bicubic(guide, chroma.shape[2:])
    slopes = _slopes(chroma, small)
    detail = guide - bicubic(small, size)
    result = torch.empty(*chroma.shape[:2], *size)
    for channel in range(chroma.shape[1]):  # one at a time, for memory
        one = slice(channel, channel + 1)
        slope = F.interpolate(slopes[:, one], size, mode="bilinear")
        result[:, one] = slope.mul_(detail)
        result[:, one] += bicubic(chroma[:, one], size)
    return result
