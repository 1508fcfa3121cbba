"""The blocks that section 4.1 builds both networks from.

This file says what the layers compute, :mod:`spynco_mm.models.ops` says how: each layer hands its
tensors to one operation, which has a readable form and, with ``fast=True``, a fast one. Where a
layer computes something else than the operation (another norm, another border), or where somebody
has hooks inside, its modules are called as they are.
"""

import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from torch import Tensor, nn

from .ops.inert_bias import inert_bias
from .ops.mapping import mapping, values_at_once
from .ops.norm_relu import norm_relu
from .ops.separable_conv import Kernel, separable_conv
from .ops.upsample import upsample
from .ops.upsampled_conv import upsampled_conv
from .ops.winograd import conv3x3


def _have_hooks(*modules: nn.Module) -> bool:
    """Whether somebody has hooks on these modules, so that they have to be called themselves.

    Spectral norm and pruning compute the weights in hooks, and feature extractors read features
    in hooks. Activation checkpointing puts a ``forward`` in place of the module's.
    """
    hooks = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
    return any(getattr(m, name) for m in modules for name in hooks) or any(
        "forward" in vars(m) for m in modules
    )


class Conv2d(nn.Conv2d):
    """``nn.Conv2d`` that knows when its bias cannot matter.

    Attributes:
        inert_bias: Whether instance norm follows, so that the bias is neither added nor moved; see
            :mod:`spynco_mm.models.ops.inert_bias`.
    """

    inert_bias = False

    @property
    def kernel(self) -> Kernel:
        """The weight, and the bias unless it is inert."""
        return self.weight, None if self.inert_bias else self.bias

    def attach_inert_bias(self, x: Tensor) -> Tensor:
        """Give an inert bias its gradient; of features that were made with :attr:`kernel`."""
        return inert_bias(x, self.bias) if self.inert_bias else x

    def forward(self, x: Tensor) -> Tensor:
        return self.attach_inert_bias(self._conv_forward(x, *self.kernel))


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
        fast: Whether operations use their fast form.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int | None = None,
        first_bias: bool = True,
        padding_mode: str = "zeros",
        fast: bool = True,
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
        self.stride, self.padding, self.padding_mode = stride, pad, padding_mode
        self.fast = fast

    @property
    def keeps_size(self) -> bool:
        """Whether the stride is 1 and the border k // 2 zeros."""
        half = self[0].kernel_size[0] // 2
        return (self.stride, self.padding, self.padding_mode) == (1, half, "zeros")

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = self
        if self.padding_mode != "zeros" or _have_hooks(rows, columns):
            return super().forward(x)
        x = separable_conv(x, rows.kernel, columns.kernel, self.stride, self.padding, self.fast)
        return columns.attach_inert_bias(x)


class ConvBlock(nn.Module):
    """Convolution, norm, activation: the block that section 4.1 builds everything from.

    Args:
        conv: A :class:`Conv2d` or :class:`SeparableConv`.
        channels: Channels that it gives.
        norm_cfg: mmcv's config of the norm; None for no norm.
        act: The activation.
        fast: Whether operations use their fast form.
    """

    def __init__(
        self,
        conv: nn.Module,
        channels: int,
        norm_cfg: dict | None,
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
        self.fast = fast

    @property
    def per_sample(self) -> bool:
        """Whether it is known that the norm keeps the samples of a batch apart."""
        norm = self.norm
        if isinstance(norm, nn.InstanceNorm2d):
            return not norm.track_running_stats
        return isinstance(norm, (nn.GroupNorm, nn.Identity))

    @property
    def _hooks_inside(self) -> bool:
        return _have_hooks(self.conv, *self.conv.children(), self.norm, self.act)

    def convolve(self, x: Tensor) -> Tensor:
        """The convolution of N×C_in×H×W, and what belongs to it."""
        return self.conv(x)

    @property
    def _slope(self) -> float | None:
        """The slope of the (leaky) ReLU, if it follows instance norm without affine and running
        statistics, and nobody has hooks inside; else None.
        """
        norm, act = self.norm, self.act
        plain = isinstance(norm, nn.InstanceNorm2d) and isinstance(act, (nn.ReLU, nn.LeakyReLU))
        if not plain or norm.affine or norm.track_running_stats or self._hooks_inside:
            return None
        return act.negative_slope if isinstance(act, nn.LeakyReLU) else 0.0

    def finish(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """Norm, activation and sum, of what :meth:`convolve` gave, which may be overwritten."""
        if (slope := self._slope) is not None:
            return norm_relu(x, residual, self.norm.eps, slope, self.fast)
        x = self.act(self.norm(x))
        return x if residual is None else residual + x

    def before_act(self, x: Tensor) -> tuple[Tensor, float]:
        """The block but for its (leaky) ReLU, whose slope is left to what comes next.

        What comes next then needs to keep only what the norm keeps anyway. The slope is 1 where
        the activation is applied already: if it is no (leaky) ReLU, or somebody has hooks inside.
        """
        if (slope := self._slope) is None or _have_hooks(self):
            return self(x), 1.0
        return norm_relu(self.convolve(x), None, self.norm.eps, 1.0, self.fast), slope

    def forward(self, x: Tensor) -> Tensor:
        return self.finish(self.convolve(x))


class ResidualBlock(ConvBlock):
    """``x + block(x)``."""

    def convolve(self, x: Tensor) -> Tensor:
        conv = self.conv
        shape = (conv.kernel_size, conv.stride, conv.padding, conv.dilation)
        is_3x3 = shape == ((3, 3), (1, 1), (1, 1), (1, 1)) and conv.groups == 1
        if is_3x3 and conv.padding_mode == "zeros" and not self._hooks_inside:
            return conv.attach_inert_bias(conv3x3(x, *conv.kernel, self.fast))
        return conv(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.finish(self.convolve(x), residual=x)


class UpsampleBlock(ConvBlock):
    """Interpolation to twice the size, then the block.

    Args:
        conv: A :class:`SeparableConv`.
        mode: ``"nearest"`` or ``"bilinear"``.
        *args, **kwargs: As for :class:`ConvBlock`.
    """

    def __init__(self, conv: SeparableConv, *args, mode: str, **kwargs):
        super().__init__(conv, *args, **kwargs)
        self.mode = mode

    def convolve(self, x: Tensor) -> Tensor:
        rows, columns = self.conv
        if self.mode == "nearest" and self.conv.keeps_size and not self._hooks_inside:
            return columns.attach_inert_bias(
                upsampled_conv(x, rows.kernel, columns.kernel, self.fast)
            )
        return self.conv(upsample(x, self.mode))


class MappingConv(Conv2d):  # "Conv" in its name, by which mmagic finds what to initialise
    """The one convolution that maps every feature map of the pyramid to domain B (section 3.2).

    Args:
        mode: ``"nearest"`` or ``"bilinear"``.
        fast: Whether operations use their fast form.
        *args, **kwargs: As for ``nn.Conv2d``.
    """

    def __init__(self, *args, mode: str, fast: bool, **kwargs):
        super().__init__(*args, **kwargs)
        self.mode, self.fast = mode, fast

    @property
    def values_per_pixel(self) -> int:
        """Values that the operation holds at once for each pixel of G_1."""
        return values_at_once(self.weight)

    def forward(self, x: Tensor, times: int, slope: float = 1.0) -> Tensor:
        """Features of 1/2^times the output's size to one image, before the tanh (Eq. 2).

        Args:
            x: N×C_in×h×w.
            times: How often the size is doubled.
            slope: Of a leaky ReLU that x goes through first; 1 for none.
        """
        if self.mode == "nearest" and self.padding_mode == "zeros":
            return mapping(x, self.weight, self.bias, times, slope, self.fast)
        x = x if slope == 1 else F.leaky_relu(x, slope)
        return super().forward(upsample(x, self.mode, times))
