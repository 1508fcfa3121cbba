"""Nearest interpolation to twice the size, then a separable convolution."""

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from .backend import by_hand, differentiable_once, empty_channels_last, exported
from .matmul import grad_of_weight, linear
from .separable_conv import Kernel, separable_conv
from .spread import spread
from .upsample import upsample

#: About how many positions the fast form takes at a time, so that the products of all of them are
#: never in memory together.
BLOCK = 4096


def upsampled_conv(x: Tensor, rows: Kernel, columns: Kernel, fast: bool = True) -> Tensor:
    """A separable convolution of stride 1, with k // 2 zeros beyond the border, of repeated values.

    Fast, for three taps: the repetition is never made. Along one axis, with taps w0, w1 and w2, and
    u[n] = x[n // 2], the convolution of u is

        y[2m]     = w0 x[m - 1] + (w1 + w2) x[m]  =  s[m]     + w1 x[m]
        y[2m + 1] = (w0 + w1) x[m] + w2 x[m + 1]  =  s[m + 1] + w1 x[m]

    with s[m] = w0 x[m - 1] + w2 x[m], values outside of x being 0. So three products per position
    of x are enough, instead of six. The vertical convolution takes the repeated rows, and the
    horizontal one the repeated columns of its result: 9 products per position of x and pair of
    channels instead of 24.

    Args:
        x: N×C_in×H×W.
        rows: Weight C×C_in×k×1 and bias of the vertical convolution.
        columns: Weight C_out×C×1×k and bias of the horizontal one.
        fast: Whether to use the fast form.

    Returns:
        N×C_out×2H×2W.
    """
    taps = rows[0].shape[2]
    if not fast or exported() or taps != 3:
        return separable_conv(upsample(x, "nearest"), rows, columns, padding=taps // 2, fast=False)
    along = _ByHand.apply if by_hand(x) else _transposed
    return along(along(x, *rows, 2), *columns, 3)


def _stacked(weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """The three taps of C_out×C_in×3×1 or ×1×3 as one 1×1 convolution to 3·C_out channels, with the
    bias, which is in every output once, beside the one in the middle.
    """
    taps = weight.flatten(2).permute(2, 0, 1).flatten(0, 1)  # [3·C_out, C_in]
    return taps, None if bias is None else F.pad(bias, (len(bias), len(bias)))


def _transposed(x: Tensor, weight: Tensor, bias: Tensor | None, dim: int) -> Tensor:
    """One axis by the library: a transposed convolution with one tap more and stride 2.

    Four products instead of three, but one kernel, and nothing in memory except for the result.
    """
    scale = (2, 1) if dim == 2 else (1, 2)
    padding = (1, 0) if dim == 2 else (0, 1)
    kernel = spread(weight, *scale).transpose(0, 1)
    return F.conv_transpose2d(x, kernel, bias, scale, padding)


def _lines(x: Tensor, dim: int) -> Tensor:
    """N×C×H×W as B×L×R×C: B lines of L positions along ``dim``, R of them side by side."""
    x = x.permute(0, 2, 3, 1).contiguous()
    return x if dim == 2 else x.flatten(0, 1).unsqueeze(2)


def _blocks(*lines: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """The same few lines of each."""
    count = max(1, BLOCK // math.prod(lines[0].shape[1:3]))
    return zip(*(part.split(count) for part in lines))


class _ByHand(torch.autograd.Function):
    """One axis. With the channels last the products are one matrix product, and a shift moves whole
    vectors of channels. A block of lines goes from x to y at a time.
    """

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor | None, dim: int) -> Tensor:
        """N×C_in×H×W and C_out×C_in×3×1 (dim 2) or ×1×3 (dim 3) to N×C_out×2H×W or ×H×2W."""
        ctx.save_for_backward(x, weight)
        ctx.has_bias, ctx.dim = bias is not None, dim
        taps, bias = _stacked(weight, bias)
        size = [2 * side if i == dim else side for i, side in enumerate(x.shape)]
        result = empty_channels_last(x, size[0], len(weight), *size[2:])
        phases = _lines(result, dim).unflatten(1, (-1, 2))
        for block, y in _blocks(_lines(x, dim), phases):
            products = linear(block.flatten(0, 2), taps, bias).view(*block.shape[:3], -1)
            before, middle, s = products.chunk(3, dim=-1)
            s[:, 1:] += before[:, :-1]
            torch.add(s, middle, out=y[:, :, 0])
            torch.add(s[:, 1:], middle[:, :-1], out=y[:, :-1, 1])
            torch.add(before[:, -1], middle[:, -1], out=y[:, -1, 1])
        return result

    @staticmethod
    @differentiable_once
    def backward(ctx, grad: Tensor):
        x, weight = ctx.saved_tensors
        taps, _ = _stacked(weight, None)
        phases = _lines(grad, ctx.dim).unflatten(1, (-1, 2))
        grad_x, grad_taps = empty_channels_last(x, *x.shape), torch.zeros_like(taps)
        for block, y, grad_block in _blocks(_lines(x, ctx.dim), phases, _lines(grad_x, ctx.dim)):
            products = block.new_empty(*block.shape[:3], len(taps))
            before, middle, after = products.chunk(3, dim=-1)  # w2 x[m + 1] is where w0 x[m] is
            torch.add(y[:, :, 0], y[:, :, 1], out=middle)
            torch.add(y[:, :-1, 1], y[:, 1:, 0], out=before[:, :-1])
            before[:, -1] = y[:, -1, 1]
            after[:, 1:] = before[:, :-1]
            after[:, 0] = y[:, 0, 0]
            products = products.flatten(0, 2)
            grad_block.copy_(linear(products, taps.t()).view_as(grad_block))
            grad_taps += grad_of_weight(products, block.flatten(0, 2))
        grad_weight = grad_taps.unflatten(0, (3, -1)).permute(1, 2, 0).reshape(weight.shape)
        return grad_x, grad_weight, grad.sum((0, 2, 3)) if ctx.has_bias else None, None
