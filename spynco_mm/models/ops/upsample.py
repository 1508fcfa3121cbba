"""Interpolation to a multiple of the size."""

import torch.nn.functional as F
from torch import Tensor


def upsample(x: Tensor, mode: str, times: int = 1) -> Tensor:
    """``up(.)`` of Eq. 2, applied ``times`` times: N×C×H×W to N×C×(2^times H)×(2^times W).

    The readable form of what :mod:`upsampled_conv` and :mod:`mapping` avoid; it has no other.

    Args:
        x: The features.
        mode: ``"nearest"`` or ``"bilinear"``.
        times: How often the size is doubled.
    """
    if mode == "nearest":
        return F.interpolate(x, scale_factor=2**times, mode=mode) if times else x
    for _ in range(times):
        x = F.interpolate(x, scale_factor=2, mode=mode, align_corners=False)
    return x
