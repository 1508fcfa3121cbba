"""Products of tall matrices, by the faster of torch's two libraries."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .backend import on_cpu
from .conv1x1 import DILATION, conv1x1

#: With fewer rows MKL is the faster one.
MIN_ROWS = 512


def _convolved(rows: Tensor) -> bool:
    """Whether rows are multiplied faster by a convolution, oneDNN's, than by MKL.

    Both use AVX-512 where an Intel processor has it; on AMD's, oneDNN alone does.
    """
    wide = torch.backends.cpu.get_cpu_capability() == "AVX512"
    return wide and on_cpu(rows) and len(rows) >= MIN_ROWS


def as_pixels(rows: Tensor) -> Tensor:
    """M×C as the 1×C×M×1 of a convolution, channels last."""
    return rows.view(1, len(rows), 1, -1).permute(0, 3, 1, 2)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, fast: bool = True) -> Tensor:
    """``F.linear`` of contiguous M×C_in and C_out×C_in.

    Fast, for many rows on a CPU with AVX-512: as a 1×1 convolution of M pixels.
    """
    if not (fast and _convolved(x)):
        return F.linear(x, weight, bias)
    return conv1x1(as_pixels(x), weight, bias).permute(0, 2, 3, 1).flatten(0, 2)


def grad_of_weight(grad: Tensor, x: Tensor, fast: bool = True) -> Tensor:
    """The gradient C_out×C_in of the weight of :func:`linear`, from those of its result M×C_out and
    its input M×C_in.
    """
    if not (fast and _convolved(x)):
        return grad.t() @ x
    size = (grad.shape[1], x.shape[1], 1, 1)
    pixels = as_pixels(x), size, as_pixels(grad)
    return torch.nn.grad.conv2d_weight(*pixels, dilation=DILATION)[..., 0, 0]
