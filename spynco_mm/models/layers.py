"""The convolutions of SpyncoGan (section 4.1): the only place that knows how they are computed.

Each layer has two ways to the same result. The naive one is the readable reference: interpolate,
then convolve. The fast one, ``fast=True``, never makes the upsampled copy of the features; it rests
on one identity (:func:`transposed_kernel`) and is exact up to rounding.
"""

from typing import Optional

import torch
import torch.nn.functional as F
from mmagic.models.utils import generation_init_weights
from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule
from torch import Tensor, nn


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


def transposed_kernel(weight: Tensor, scale: "tuple[int, int]") -> Tensor:
    """The T with which ``conv_transpose(x, T, stride=s)`` is ``conv(nearest upsampling of x)``.

    In one dimension, with k taps w and r = k // 2, the convolution of u[n] = x[n // s] is
    y[i] = sum_t w[t] u[i + t - r]. The value x[m] is u[sm], ..., u[sm + s - 1], so it reaches
    y[sm + j - r] through the taps with t = 2r + e - j for e = 0, ..., s - 1:

        T[j] = w[2r - j] + w[2r - j + 1] + ... + w[2r - j + s - 1],    j = 0, ..., k + s - 2

    which is the flipped kernel, summed over s shifts. A transposed convolution with stride s and
    padding r puts T exactly there; values outside of x count as 0 in both. Per value of x that is
    k + s - 1 products instead of s·k, at the low resolution.

    Args:
        weight: C_out×C_in×k_h×k_w, odd k.
        scale: s in both directions; 1 leaves a direction as it is.

    Returns:
        C_in×C_out×(k_h + s_h - 1)×(k_w + s_w - 1), differentiable in the weight.
    """
    high, wide = scale
    kernel = weight.flip(2, 3).transpose(0, 1)
    kernel = sum(F.pad(kernel, (0, 0, e, high - 1 - e)) for e in range(high))
    return sum(F.pad(kernel, (e, wide - 1 - e, 0, 0)) for e in range(wide))


def _upsampled_conv(x: Tensor, conv: Conv2d, scale: "tuple[int, int]") -> Tensor:
    """``conv`` of the nearest upsampling of x, without making it."""
    kernel = transposed_kernel(conv.weight, scale)
    if conv.inert_bias:
        return conv.finish(F.conv_transpose2d(x, kernel, None, scale, conv.padding))
    return F.conv_transpose2d(x, kernel, conv.bias, scale, conv.padding)


class ConvBlock(nn.Module):
    """Convolution, norm, activation: the block that section 4.1 builds everything from."""

    def __init__(self, conv: nn.Module, channels: int, norm_cfg: Optional[dict], act: nn.Module):
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

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.norm(self.conv(x)))


class ResidualBlock(ConvBlock):
    """``x + block(x)``."""

    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


class UpsampleBlock(ConvBlock):
    """Interpolation to twice the size, then the block.

    Fast: nearest upsampling and the vertical convolution are one transposed convolution with
    k + 1 taps, likewise the horizontal ones: 12 products per low-resolution pixel and pair of
    channels instead of 24 for k = 3.

    Args:
        conv: A :class:`SeparableConv`.
        mode: ``"nearest"`` or ``"bilinear"``.
        fast: Whether to use it where it applies, nearest upsampling and zero padding.
    """

    def __init__(self, conv: SeparableConv, *args, mode: str, fast: bool):
        super().__init__(conv, *args)
        self.mode = mode
        self.fast = fast and mode == "nearest" and conv[0].padding_mode == "zeros"

    def forward(self, x: Tensor) -> Tensor:
        if not self.fast:
            return super().forward(upsample(x, self.mode))
        x = _upsampled_conv(x, self.conv[0], (2, 1))
        x = _upsampled_conv(x, self.conv[1], (1, 2))
        return self.act(self.norm(x))


class MappingConv(Conv2d):  # "Conv" in its name, by which mmagic finds what to initialise
    """The one convolution that maps every feature map of the pyramid to domain B (section 3.2).

    Fast: one product of the low-resolution features with all taps of :func:`transposed_kernel`, to
    few channels, whose results ``F.fold`` adds up where they belong. The wide features are never
    upsampled.
    """

    def __init__(self, *args, mode: str, fast: bool, **kwargs):
        super().__init__(*args, **kwargs)
        self.mode = mode
        self.fast = fast and mode == "nearest" and self.padding_mode == "zeros"

    def forward(self, x: Tensor, times: int) -> Tensor:
        """Features of 1/2^times the output's size to one image, before the tanh (Eq. 2)."""
        if not self.fast:
            return super().forward(upsample(x, self.mode, times))
        scale = 2**times
        kernel = transposed_kernel(self.weight, (scale, scale))  # [C_in, C_out, K_h, K_w]
        taps = F.conv2d(x, kernel.flatten(1).T[:, :, None, None])  # [N, C_out·K_h·K_w, h, w]
        size = (x.shape[-2] * scale, x.shape[-1] * scale)
        image = F.fold(taps.flatten(2), size, kernel.shape[2:], padding=self.padding, stride=scale)
        return self.finish(image)
