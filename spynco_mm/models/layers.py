"""The convolutions of SpyncoGan (section 4.1): the only place that knows how they are computed.

Each layer has two ways to the same result. The naive one is the readable reference: interpolate,
convolve, normalise, rectify, add. The fast one, ``fast=True``, never makes the upsampled copy of
wide features, since a convolution of repeated values is a sum of products at low resolution
(:class:`_ShiftAdd`, :class:`MappingConv`), and keeps less for the backward pass
(:class:`_NormReLU`). It is exact up to rounding.
"""

from typing import Optional

import torch
import torch.nn.functional as F
from mmagic.models.utils import generation_init_weights
from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class GANModule(BaseModule):
    """A network that starts as mmagic's generators and discriminators do.

    Args:
        init_cfg: ``dict(type="normal" | "xavier" | "kaiming", gain=...)``, or mmengine's
            ``dict(type="Pretrained", checkpoint=...)``. None means normal, 0.02.
    """

    def __init__(self, init_cfg: Optional[dict] = None):
        super().__init__(init_cfg=init_cfg or dict(type="normal", gain=0.02))
        # Not mmagic's "orthogonal": it fails on convolutions without bias.
        if self.init_cfg.get("type") not in ("normal", "xavier", "kaiming", "Pretrained"):
            raise ValueError(
                f"{type(self).__name__}: the type of init_cfg is 'normal', 'xavier', 'kaiming' or "
                f"'Pretrained', got {init_cfg}."
            )

    def init_weights(self) -> None:
        if self.init_cfg["type"] == "Pretrained":
            super().init_weights()
            return
        generation_init_weights(self, self.init_cfg["type"], self.init_cfg.get("gain", 0.02))
        self._is_init = True


# ------------------------------------------------------------------------------- convolutions


class _InertBias(torch.autograd.Function):
    """Identity on features; a gradient of exactly 0 for a bias that has no effect on them."""

    @staticmethod
    def forward(ctx, features: Tensor, bias: Tensor) -> Tensor:
        ctx.bias_shape = bias.shape
        return features.view_as(features)

    @staticmethod
    def backward(ctx, grad: Tensor):
        return grad, grad.new_zeros(ctx.bias_shape)


class Conv2d(nn.Conv2d):
    """``nn.Conv2d`` that knows when its bias cannot matter.

    Instance norm subtracts the mean of each channel, and with it the bias of the convolution before
    it. The true gradient of such a bias is 0, but rounding makes it a little noise, which Adam
    scales up to steps of the learning rate. With ``inert_bias`` the bias is neither added nor
    moved.
    """

    inert_bias = False

    def finish(self, x: Tensor) -> Tensor:
        """Add the bias to features computed without it."""
        if not self.inert_bias:
            return x + self.bias[:, None, None]
        return _InertBias.apply(x, self.bias) if torch.is_grad_enabled() else x

    def forward(self, x: Tensor) -> Tensor:
        if not self.inert_bias:
            return super().forward(x)
        return self.finish(self._conv_forward(x, self.weight, None))


class SeparableConv(nn.Sequential):
    """A k×1 convolution followed by a 1×k one (Mamalet & Garcia 2012), nothing in between.

    The first changes the number of channels and takes the vertical stride, the second the
    horizontal one. Neither is depthwise or grouped.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: k.
        stride: Stride in both directions.
        padding: Zeros (or ``padding_mode``) on either side; None means k // 2.
        first_bias: Whether the k×1 convolution has a bias too.
        padding_mode: As in ``nn.Conv2d``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: Optional[int] = None,
        first_bias: bool = True,
        padding_mode: str = "zeros",
    ):
        pad = kernel_size // 2 if padding is None else padding
        super().__init__(
            Conv2d(
                in_channels,
                out_channels,
                (kernel_size, 1),
                stride=(stride, 1),
                padding=(pad, 0),
                bias=first_bias,
                padding_mode=padding_mode,
            ),
            Conv2d(
                out_channels,
                out_channels,
                (1, kernel_size),
                stride=(1, stride),
                padding=(0, pad),
                padding_mode=padding_mode,
            ),
        )


# ----------------------------------------------------------------------------- upsampling


def upsample(x: Tensor, mode: str, times: int = 1) -> Tensor:
    """``up(.)`` of Eq. 2, applied ``times`` times: N×C×H×W to N×C×(2^times H)×(2^times W)."""
    if mode == "nearest":
        return F.interpolate(x, scale_factor=2**times, mode=mode) if times else x
    for _ in range(times):
        x = F.interpolate(x, scale_factor=2, mode=mode, align_corners=False)
    return x


class _ShiftAdd(torch.autograd.Function):
    """The sum that makes a convolution of a nearest ×2 upsampling out of products before it.

    In one dimension, with taps w[0], ..., w[k-1] and r = k // 2, the convolution of
    u[n] = x[n // 2] is, at i = 2m + j,

        y[2m + j] = sum_t w[t] u[2m + j + t - r] = sum_t w[t] x[m + (j + t - r) // 2]

    So k products w[t] x at low resolution are enough, instead of the 2k of the upsampled copy; each
    goes into both phases j, shifted. Values outside of x count as 0 in both.
    """

    @staticmethod
    def _terms(products: Tensor, phases: Tensor, dim: int):
        """Views (t, j, part of w[t] x, part of phase j) that correspond, the unshifted ones first.

        products: N×k×C×h×w; phases: N×C×h×2×w for dim 2, N×C×h×w×2 for dim 3.
        """
        k, length = products.shape[1], products.shape[dim + 1]
        shifts = [(t, j, (j + t - k // 2) // 2) for t in range(k) for j in range(2)]
        for t, j, shift in sorted(shifts, key=lambda term: abs(term[2])):
            size = max(length - abs(shift), 0)
            source = products.select(1, t).narrow(dim, min(max(shift, 0), length), size)
            target = phases.select(dim + 1, j).narrow(dim, min(max(-shift, 0), length), size)
            yield t, j, source, target

    @staticmethod
    def forward(ctx, products: Tensor, dim: int) -> Tensor:
        """N×k×C×h×w to N×C×2h×w (dim 2) or N×C×h×2w (dim 3)."""
        n, _, c, h, w = products.shape
        ctx.products_shape, ctx.dim = products.shape, dim
        phases = products.new_empty((n, c, h, 2, w) if dim == 2 else (n, c, h, w, 2))
        begun = set()  # The first term of a phase is unshifted, so it fills all of it.
        for _, j, source, target in _ShiftAdd._terms(products, phases, dim):
            target.add_(source) if j in begun else target.copy_(source)
            begun.add(j)
        return phases.flatten(dim, dim + 1)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        dim = ctx.dim
        phases = grad.unflatten(dim, (-1, 2))
        products = grad.new_empty(ctx.products_shape)
        begun = set()
        for t, _, source, target in _ShiftAdd._terms(products, phases, dim):
            if t in begun:
                source.add_(target)
                continue
            if source.shape != products.select(1, t).shape:
                products.select(1, t).zero_()
            source.copy_(target)
            begun.add(t)
        return products, None


def _upsampled_conv(x: Tensor, conv: Conv2d, dim: int) -> Tensor:
    """``conv``, with taps along ``dim`` only, of x repeated twice along ``dim``."""
    c_out, c_in = conv.weight.shape[:2]
    taps = conv.weight.flatten(2).permute(2, 0, 1).reshape(-1, c_in, 1, 1)  # [k·C_out, C_in, 1, 1]
    products = F.conv2d(x, taps).unflatten(1, (-1, c_out))
    return conv.finish(_ShiftAdd.apply(products, dim))


# ---------------------------------------------------------------------------------- blocks


class _NormReLU(torch.autograd.Function):
    """Instance norm without affine, ReLU, and the sum with a residual, as one function.

    Apart, the norm keeps its input, the ReLU and the sum their outputs. Here only the normalised
    value and the inverse deviation are kept, from which all gradients follow: with y normalised and
    g the gradient after the ReLU's gate, the gradient of the input is

        inverse deviation · (g - mean(g) - y · mean(g y))

    the means being over a channel of a sample. That is batch norm's backward pass for an input y
    of mean 0 and deviation 1, whose weight is the inverse deviation.
    """

    @staticmethod
    def forward(ctx, x: Tensor, residual: Optional[Tensor], eps: float) -> Tensor:
        y, _, inverse = torch.native_batch_norm(
            x.flatten(0, 1)[None], None, None, None, None, True, 0.0, eps
        )
        y = y.view_as(x)
        ctx.save_for_backward(y, inverse)
        ctx.has_residual = residual is not None
        return F.relu(y) if residual is None else F.relu(y).add_(residual)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        y, inverse = ctx.saved_tensors
        gated = torch.ops.aten.threshold_backward(grad, y, 0)
        grad_x, _, _ = torch.ops.aten.native_batch_norm_backward(
            gated.flatten(0, 1)[None],
            y.flatten(0, 1)[None],
            inverse,
            None,
            None,
            torch.zeros_like(inverse),
            torch.ones_like(inverse),
            True,
            0.0,
            [True, False, False],
        )
        return grad_x.view_as(y), grad if ctx.has_residual else None, None


class ConvBlock(nn.Module):
    """Convolution, norm, activation: the block that section 4.1 builds everything from.

    Args:
        conv: A :class:`Conv2d` or :class:`SeparableConv`.
        channels: Channels that it gives.
        norm_cfg: mmcv's config of the norm; None for no norm.
        act: The activation.
        fast: Whether to run norm and activation as one function, where they are instance norm
            without affine and ReLU.
    """

    def __init__(
        self,
        conv: nn.Module,
        channels: int,
        norm_cfg: Optional[dict],
        act: nn.Module,
        fast: bool = True,
    ):
        super().__init__()
        self.conv = conv
        try:
            self.norm = (
                nn.Identity() if norm_cfg is None else build_norm_layer(norm_cfg, channels)[1]
            )
        except KeyError as error:  # mmcv's own message does not name it
            raise KeyError(f"norm_cfg={norm_cfg}: mmcv knows no such norm; try 'IN'.") from error
        self.act = act
        last = conv[-1] if isinstance(conv, SeparableConv) else conv
        last.inert_bias = isinstance(self.norm, nn.InstanceNorm2d)
        self.fused = fast and last.inert_bias and not self.norm.affine and isinstance(act, nn.ReLU)

    def finish(self, x: Tensor, residual: Optional[Tensor] = None) -> Tensor:
        """Norm, activation and sum, of what the convolution gave."""
        if self.fused and torch.is_grad_enabled():
            return _NormReLU.apply(x, residual, self.norm.eps)
        x = self.act(self.norm(x))
        return x if residual is None else residual + x

    def forward(self, x: Tensor) -> Tensor:
        return self.finish(self.conv(x))


class ResidualBlock(ConvBlock):
    """``x + block(x)``."""

    def forward(self, x: Tensor) -> Tensor:
        return self.finish(self.conv(x), residual=x)


class UpsampleBlock(ConvBlock):
    """Interpolation to twice the size, then the block.

    Fast, for nearest interpolation and zero padding: the vertical convolution of the repeated rows,
    then the horizontal one of the repeated columns, both from products before the repetition: 9 per
    low-resolution pixel and pair of channels instead of 24 for k = 3.

    Args:
        conv: A :class:`SeparableConv`.
        mode: ``"nearest"`` or ``"bilinear"``.
        *args, **kwargs: As for :class:`ConvBlock`.
    """

    def __init__(self, conv: SeparableConv, *args, mode: str, fast: bool = True, **kwargs):
        super().__init__(conv, *args, fast=fast, **kwargs)
        self.mode = mode
        self.fast = fast and mode == "nearest" and conv[0].padding_mode == "zeros"

    def forward(self, x: Tensor) -> Tensor:
        if not self.fast:
            return super().forward(upsample(x, self.mode))
        rows, columns = self.conv
        return self.finish(_upsampled_conv(_upsampled_conv(x, rows, 2), columns, 3))


class MappingConv(Conv2d):  # "Conv" in its name, by which mmagic finds what to initialise
    """The one convolution that maps every feature map of the pyramid to domain B (section 3.2).

    Fast, for nearest interpolation and zero padding: a transposed convolution with stride s of the
    low-resolution features is the convolution of their s-fold repetition if its kernel is the
    flipped one, summed over s shifts. In one dimension, with u[n] = x[n // s] and r = k // 2, the
    value x[m] is u[sm], ..., u[sm + s - 1], so it reaches y[sm + j - r] through

        T[j] = w[2r - j] + w[2r - j + 1] + ... + w[2r - j + s - 1],    j = 0, ..., k + s - 2

    Since the output has few channels, all (k + s - 1)² of them are one 1×1 convolution, and
    ``F.fold`` adds the results up where they belong. The wide features are never upsampled.
    """

    def __init__(self, *args, mode: str, fast: bool, **kwargs):
        super().__init__(*args, **kwargs)
        self.mode = mode
        self.fast = fast and mode == "nearest" and self.padding_mode == "zeros"

    def spread_kernel(self, scale: int) -> Tensor:
        """T of the class, C_out×(k + s - 1)×(k + s - 1)×C_in; gradients reach the weight."""
        kernel = self.weight.flip(2, 3).permute(0, 2, 3, 1)
        pads = [(shift, scale - 1 - shift) for shift in range(scale)]
        kernel = sum(F.pad(kernel, (0, 0, 0, 0, *pad)) for pad in pads)
        return sum(F.pad(kernel, (0, 0, *pad)) for pad in pads)

    def forward(self, x: Tensor, times: int) -> Tensor:
        """Features of 1/2^times the output's size to one image, before the tanh (Eq. 2)."""
        if not self.fast:
            return super().forward(upsample(x, self.mode, times))
        scale = 2**times
        kernel = self.spread_kernel(scale)
        taps = F.conv2d(x, kernel.flatten(0, 2)[..., None, None])  # [N, C_out·K·K, h, w]
        size = (x.shape[-2] * scale, x.shape[-1] * scale)
        image = F.fold(taps.flatten(2), size, kernel.shape[1:3], padding=self.padding, stride=scale)
        return self.finish(image)
