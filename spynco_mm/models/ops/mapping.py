"""Nearest interpolation of features to the output's size, then a convolution to few channels."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .backend import compiled, differentiable_once, exported
from .conv1x1 import DILATION, conv1x1
from .upsample import upsample


def mapping(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    times: int = 0,
    slope: float = 1.0,
    fast: bool = True,
) -> Tensor:
    """A convolution of stride 1, with k // 2 zeros beyond the border, of 2^times-fold repetition.

    Fast: a transposed convolution with stride s = 2^times of the features is the convolution of
    their s-fold repetition if its kernel is the flipped one, summed over s shifts. In one
    dimension, with u[n] = x[n // s] and r = k // 2, the value x[m] is u[sm], ..., u[sm + s - 1], so
    it reaches y[sm + j - r] through

        T[j] = w[2r - j] + w[2r - j + 1] + ... + w[2r - j + s - 1],    j = 0, ..., k + s - 2

    Since the output has few channels, all (k + s - 1)² of them are one 1×1 convolution, and
    ``F.fold`` adds the results up where they belong. The wide features are never upsampled. Nor are
    the rectified ones kept for the backward pass: they are recomputed from those before.

    Args:
        x: N×C_in×H×W.
        weight: C_out×C_in×k×k, k odd.
        bias: C_out, or None.
        times: How often the size is doubled.
        slope: Of a leaky ReLU that x goes through first; 0 for a ReLU, 1 for none.
        fast: Whether to use the fast form.

    Returns:
        N×C_out×sH×sW.
    """
    padding = weight.shape[2] // 2
    if not fast or exported():
        x = _rectified(x, slope)
        return F.conv2d(upsample(x, "nearest", times), weight, bias, padding=padding)
    scale = 2**times
    kernel = _spread(weight, scale)
    if slope != 1 and not compiled():
        taps = _RectifiedConv.apply(x, kernel.flatten(0, 2), slope).flatten(2)
    else:
        taps = conv1x1(_rectified(x, slope), kernel.flatten(0, 2)).flatten(2)
    size = (x.shape[-2] * scale, x.shape[-1] * scale)
    image = F.fold(taps, size, kernel.shape[1:3], padding=padding, stride=scale)
    return image if bias is None else image + bias[:, None, None]


def _rectified(x: Tensor, slope: float) -> Tensor:
    if slope == 1:
        return x
    return F.leaky_relu(x, slope) if slope else F.relu(x)


class _RectifiedConv(torch.autograd.Function):
    """``conv1x1(leaky_relu(y))``, for which only y is kept."""

    @staticmethod
    def forward(ctx, y: Tensor, weight: Tensor, slope: float) -> Tensor:
        ctx.save_for_backward(y, weight)
        ctx.slope = slope
        return conv1x1(_rectified(y, slope), weight)

    @staticmethod
    @differentiable_once
    def backward(ctx, grad: Tensor):
        y, weight = ctx.saved_tensors
        # Under autocast the convolution was computed in the type that grad has.
        kernel, x = weight.to(grad.dtype)[..., None, None], _rectified(y, ctx.slope).to(grad.dtype)
        dilation = 1 if x.is_cuda else DILATION
        grad_y, grad_weight, _ = torch.ops.aten.convolution_backward(
            grad, x, kernel, None, [1], [0], [dilation], False, [0], 1, [True, True, False]
        )
        del x  # The largest features of the network are freed as soon as they have been used.
        gate, grad_y = torch.ops.aten.leaky_relu_backward.grad_input, grad_y.to(y.dtype)
        gate(grad_y, y, ctx.slope, False, grad_input=grad_y)
        return grad_y, grad_weight[..., 0, 0].to(weight.dtype), None


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
