"""The convolutions of SpyncoGan (section 4.1): the only place that knows how they are computed."""

from typing import Optional

import torch.nn.functional as F
from mmagic.models.utils import generation_init_weights
from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule
from torch import Tensor, nn


class GANModule(BaseModule):
    """A network that starts as mmagic's generators and discriminators do.

    Args:
        init_cfg: ``dict(type="normal" | "xavier" | "kaiming" | "orthogonal", gain=...)``, or
            mmengine's ``dict(type="Pretrained", checkpoint=...)``. None means normal, 0.02.
    """

    def __init__(self, init_cfg: Optional[dict] = None):
        super().__init__(init_cfg=init_cfg or dict(type="normal", gain=0.02))

    def init_weights(self) -> None:
        if self.init_cfg["type"] == "Pretrained":
            super().init_weights()
            return
        generation_init_weights(self, self.init_cfg["type"], self.init_cfg.get("gain", 0.02))
        self._is_init = True


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
            nn.Conv2d(
                in_channels,
                out_channels,
                (kernel_size, 1),
                stride=(stride, 1),
                padding=(pad, 0),
                bias=first_bias,
                padding_mode=padding_mode,
            ),
            nn.Conv2d(
                out_channels,
                out_channels,
                (1, kernel_size),
                stride=(1, stride),
                padding=(0, pad),
                padding_mode=padding_mode,
            ),
        )


def upsample(x: Tensor, mode: str, times: int = 1) -> Tensor:
    """``up(.)`` of Eq. 2, applied ``times`` times: N×C×H×W to N×C×(2^times H)×(2^times W)."""
    for _ in range(times):
        align = None if mode == "nearest" else False
        x = F.interpolate(x, scale_factor=2, mode=mode, align_corners=align)
    return x


class ConvBlock(nn.Sequential):
    """Convolution, norm, activation: the block that section 4.1 builds everything from."""

    def __init__(self, conv: nn.Module, channels: int, norm_cfg: Optional[dict], act: nn.Module):
        norm = [] if norm_cfg is None else [build_norm_layer(norm_cfg, channels)[1]]
        super().__init__(conv, *norm, act)


class ResidualBlock(ConvBlock):
    """``x + block(x)``."""

    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


class UpsampleBlock(ConvBlock):
    """Interpolation to twice the size, then the block."""

    def __init__(self, *args, mode: str = "nearest", **kwargs):
        super().__init__(*args, **kwargs)
        self.mode = mode

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(upsample(x, self.mode))


class SharedMapping(nn.Conv2d):
    """The one convolution that maps every feature map of the pyramid to domain B (section 3.2)."""

    def __init__(self, *args, mode: str = "nearest", **kwargs):
        super().__init__(*args, **kwargs)
        self.mode = mode

    def forward(self, x: Tensor, times: int) -> Tensor:
        """Features of 1/2^times the output's size to one image, before the tanh (Eq. 2)."""
        return super().forward(upsample(x, self.mode, times))
