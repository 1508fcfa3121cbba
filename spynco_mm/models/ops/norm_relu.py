"""Instance norm, (leaky) ReLU, and the sum with a residual."""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from .backend import compiled, differentiable_once, exported, full_precision, on_cpu

#: About how many values a block of samples has.
BLOCK = 2**18
#: Positions of a channels-last map beyond which batch norm's kernel is no longer exact enough. It
#: takes the variance in one pass in single precision: with a mean of 100 deviations it is off by
#: 8e-5 of itself at 1000×1000 and by 0.4 at 2000×2000, with a mean of 0 by 0.007 at 4000×4000.
LARGE = 2**17


def norm_relu(
    x: Tensor,
    residual: Tensor | None = None,
    eps: float = 1e-5,
    slope: float = 0.0,
    fast: bool = True,
) -> Tensor:
    """``residual + leaky_relu(instance_norm(x))``, the norm without affine and running statistics.

    Fast, unless a compiler fuses by itself: as one function. Apart, the norm keeps its input, the
    ReLU and the sum their outputs. Here only the normalised value y and the inverse deviation are
    kept, from which all gradients follow: with g the gradient after the ReLU's gate, the gradient
    of the input is

        inverse deviation · (g - mean(g) - y · mean(g y))

    the means being over a channel of a sample. A CPU takes a block of samples at a time. On a GPU
    the rows of layer norm are the channels of all samples: one kernel, one pass over the features,
    where its kernels of batch norm, of which instance norm makes use, take up to ten times as long.

    Args:
        x: N×C×H×W. The result of the fast form may take its place in memory.
        residual: N×C×H×W, or None.
        eps: Of the norm.
        slope: Of the leaky ReLU; 0 for a ReLU, 1 for none. Without any, and without residual, the
            result is y itself and is kept only once.
        fast: Whether to use the fast form.
    """
    if fast and not compiled() and not exported():
        return _NormReLU.apply(x, residual, eps, slope)
    y = F.instance_norm(x, eps=eps)
    if slope != 1:
        y = F.leaky_relu(y, slope, inplace=True) if slope else F.relu(y, inplace=True)
    return y if residual is None else residual + y


def _blocks(*features: Tensor) -> Iterable[tuple[Tensor, ...]]:
    """Blocks of samples to be normalised at a time, the same samples of each of some features.

    Without channels last that is one block, 1×(N·C)×H×W, where the channels of all samples are
    those of one. With channels last a block is one sample, or a few small ones.
    """
    if features[0].is_contiguous():
        return [tuple(x.contiguous().flatten(0, 1)[None] for x in features)]
    size = max(1, BLOCK // features[0][0].numel())
    return zip(*(x.split(size) for x in features))


def _by_batch_norm(x: Tensor) -> bool:
    """Whether batch norm's kernels, the fastest for one sample, know such a block."""
    return len(x) == 1 and x.dtype in (torch.float32, torch.float64)


def _normalize_large(x: Tensor, y: Tensor, inverse: Tensor, eps: float) -> None:
    """y and the inverse deviation of one sample with channels last, in two passes."""
    torch.sub(x, x.mean((2, 3), keepdim=True, dtype=inverse.dtype), out=y)
    pixels = y.permute(0, 2, 3, 1).flatten(0, 2)  # [H·W, C]
    # Sums of few squares, and their sum in double precision.
    parts = pixels.split(BLOCK // 16)
    norms = [torch.linalg.vector_norm(part, dim=0, dtype=inverse.dtype) for part in parts]
    variance = torch.stack(norms).double().square_().sum(0) / len(pixels)
    inverse.copy_((variance + eps).rsqrt().view_as(inverse))
    y.mul_(inverse)


def _normalize(x: Tensor, y: Tensor, inverse: Tensor, eps: float) -> None:
    """y and the inverse deviation of a block."""
    if len(x) == 1 and x[0, 0].numel() > LARGE and not x.is_contiguous():
        _normalize_large(x, y, inverse, eps)
    elif _by_batch_norm(x):
        out = y, torch.empty_like(inverse).flatten(), inverse.flatten()
        torch.native_batch_norm(x, *[None] * 4, True, 0.0, eps, out=out)
    else:
        centered = x - x.mean((2, 3), keepdim=True, dtype=inverse.dtype)
        variance = centered.square().mean((2, 3), keepdim=True)
        torch.rsqrt(variance + eps, out=inverse)
        torch.mul(centered, inverse, out=y)


class _NormReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, residual: Tensor | None, eps: float, slope: float) -> Tensor:
        ctx.has_residual, ctx.slope = residual is not None, slope
        plain = slope == 1 and residual is None
        if on_cpu(x):
            wide = torch.promote_types(x.dtype, torch.float32)  # for statistics of half precision
            y, inverse = torch.empty_like(x), x.new_empty(*x.shape[:2], 1, 1, dtype=wide)
        else:
            with full_precision(x):  # Autocast would keep y in single precision.
                y, _, inverse = torch.native_layer_norm(x, x.shape[2:], None, None, eps)
        features = [x, y, inverse] if residual is None else [x, y, inverse, residual]
        for x_, y_, inverse_, *residual_ in _blocks(*features) if on_cpu(x) else [features]:
            if on_cpu(x):
                _normalize(x_, y_, inverse_, eps)
            if not plain:
                torch.ops.aten.leaky_relu(y_, slope, out=x_)
            if residual_:
                x_ += residual_[0]
        ctx.save_for_backward(y, inverse)
        if plain:
            return y
        ctx.mark_dirty(x)
        return x

    @staticmethod
    @differentiable_once
    def backward(ctx, grad: Tensor):
        y, inverse = ctx.saved_tensors
        if not on_cpu(y):
            grad_x = _grad_rows(y, grad, inverse, ctx.slope)
            return grad_x, grad if ctx.has_residual else None, None, None
        blocks = list(_blocks(y, grad, inverse))
        if len(blocks) == 1:
            grad_x = _grad_block(*blocks[0], ctx.slope).view_as(y)
        else:
            grad_x = torch.empty_like(y)
            for block, part in zip(blocks, grad_x.split([len(block[0]) for block in blocks])):
                part.copy_(_grad_block(*block, ctx.slope))
        return grad_x, grad if ctx.has_residual else None, None, None


def _gated(y: Tensor, grad: Tensor, slope: float) -> Tensor:
    """The gradient before the ReLU."""
    return grad if slope == 1 else torch.ops.aten.leaky_relu_backward(grad, y, slope, False)


def _grad_rows(y: Tensor, grad: Tensor, inverse: Tensor, slope: float) -> Tensor:
    """The gradient of the input by layer norm's kernel, for rows y of mean 0 and deviation 1."""
    gated = torch.mul(_gated(y, grad, slope), inverse, out=torch.empty_like(y))
    statistics = torch.zeros_like(inverse), torch.ones_like(inverse)
    mask = [True, False, False]
    return torch.ops.aten.native_layer_norm_backward(
        gated, y, y.shape[2:], *statistics, None, None, mask
    )[0]


def _grad_block(y: Tensor, grad: Tensor, inverse: Tensor, slope: float) -> Tensor:
    """The gradient of a block of the input."""
    gated = _gated(y, grad, slope)
    if _by_batch_norm(y):
        # Of an input y of mean 0 and deviation 1, with the inverse deviation as weight.
        weight = inverse.flatten()
        statistics = torch.zeros_like(weight), torch.ones_like(weight)
        return torch.ops.aten.native_batch_norm_backward(
            gated, y, weight, None, None, *statistics, True, 0.0, [True, False, False]
        )[0]
    gated = gated.to(inverse.dtype)
    correlation = (gated * y).mean((2, 3), keepdim=True)
    gated = gated - gated.mean((2, 3), keepdim=True)
    gated.addcmul_(y.to(inverse.dtype), correlation, value=-1)
    return gated.mul_(inverse).to(y.dtype)
