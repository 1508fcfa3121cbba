"""Nearest interpolation of features to the output's size, then a convolution to few channels."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .backend import compiled, differentiable_once, exported, on_cpu
from .conv1x1 import DILATION, conv1x1
from .spread import spread
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
    :func:`_fold` adds the results up where they belong. The wide features are never upsampled. Nor
    are the rectified ones kept for the backward pass: they are recomputed from those before.

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
    kernel = spread(weight, scale, scale).permute(0, 2, 3, 1)
    if slope != 1 and not compiled():
        taps = _RectifiedConv.apply(x, kernel.flatten(0, 2), slope)
    else:
        taps = conv1x1(_rectified(x, slope), kernel.flatten(0, 2))
    image = _fold(taps.unflatten(1, kernel.shape[:3]), padding, scale)
    return image if bias is None else image + bias[:, None, None]


def _rectified(x: Tensor, slope: float) -> Tensor:
    if slope == 1:
        return x
    return F.leaky_relu(x, slope) if slope else F.relu(x)


def _fold(taps: Tensor, padding: int, stride: int) -> Tensor:
    """Sums of N×C×k×k×h×w values, tap (i, j) of (y, x) at (stride y + i, stride x + j) - padding.

    The result is N×C×(stride h)×(stride w).
    """
    if compiled():
        return _fold_by_shifts(taps, padding, stride)
    fold = F.fold if on_cpu(taps) else _Fold.apply
    kernel, size = taps.shape[2:4], [stride * side for side in taps.shape[4:]]
    return fold(taps.flatten(1, 3).flatten(2), size, kernel, 1, padding, stride)


def _fold_by_shifts(taps: Tensor, padding: int, stride: int) -> Tensor:
    """Reads instead of scattered writes, for a compiler, which makes one kernel of them.

    Of tap ``stride a + i``, i < stride, position y is the i-th one of the result's y + a.
    """
    (k, _, h, w), s = taps.shape[2:], stride
    reach = -(-k // s)
    taps = F.pad(taps, (0, 0, 0, 0, 0, reach * s - k, 0, reach * s - k))
    taps = taps.unflatten(3, (reach, s)).unflatten(2, (reach, s))  # [N, C, a, i, b, j, h, w]
    total = sum(
        F.pad(taps[:, :, a, :, b], (b, reach - 1 - b, a, reach - 1 - a))
        for a in range(reach)
        for b in range(reach)
    )
    image = total.permute(0, 1, 4, 2, 5, 3).flatten(4).flatten(2, 3)
    return image.narrow(2, padding, s * h).narrow(3, padding, s * w)


class _Fold(torch.autograd.Function):
    """``F.fold``, whose own gradient is a kernel for each sample on a GPU. This is one copy."""

    @staticmethod
    def forward(ctx, taps: Tensor, size: list[int], kernel: tuple, *args: int) -> Tensor:
        ctx.kernel, (_, ctx.padding, ctx.stride) = kernel, args
        return F.fold(taps, size, kernel, *args)

    @staticmethod
    def backward(ctx, grad: Tensor):
        windows = F.pad(grad, [ctx.padding] * 4)
        for dim, k in zip((2, 3), ctx.kernel):
            windows = windows.unfold(dim, k, ctx.stride)  # [N, C, h, w, k, k] in the end
        grad_taps = windows.permute(0, 1, 4, 5, 2, 3).flatten(1, 3).flatten(2)
        return grad_taps, None, None, None, None, None


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
        dilation = DILATION if on_cpu(x) else 1
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
