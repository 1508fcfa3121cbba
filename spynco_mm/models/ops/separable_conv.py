"""A k×1 convolution followed by a 1×k one."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .backend import exported

#: Weight and bias of a convolution.
Kernel = tuple[Tensor, Tensor | None]


def cheaper_together(rows: Tensor, stride: int) -> bool:
    """Whether the one k×k convolution that both are together takes fewer products."""
    c_out, c_in, k, _ = rows.shape
    return k * k * c_in * c_out < k * c_out * (stride * c_in + c_out)


def separable_conv(
    x: Tensor, rows: Kernel, columns: Kernel, stride: int = 1, padding: int = 0, fast: bool = True
) -> Tensor:
    """A convolution along the columns, then one along the rows, with zeros beyond the border.

    Fast, where the first has no bias and the input so few channels that it is cheaper: the one k×k
    convolution that both are together.

    Args:
        x: N×C_in×H×W.
        rows: Weight C×C_in×k×1 and bias of the first, which takes the vertical stride.
        columns: Weight C_out×C×1×k and bias of the second, which takes the horizontal one.
        stride, padding: In both directions.
        fast: Whether to use the fast form.
    """
    (w1, b1), (w2, b2) = rows, columns
    if fast and b1 is None and not exported() and cheaper_together(w1, stride):
        weight = torch.einsum("omx,mcy->ocyx", w2[:, :, 0], w1[..., 0])
        return F.conv2d(x, weight, b2, stride, padding)
    x = F.conv2d(x, w1, b1, (stride, 1), (padding, 0))
    return F.conv2d(x, w2, b2, (1, stride), (0, padding))
