"""SpyncoGan's discriminator (Figure 4b)."""

from collections.abc import Sequence

from mmagic.registry import MODELS
from torch import Tensor, nn

from .base import GANModule, require_whole
from .layers import ConvBlock, SeparableConv
from .ops.layout import layout


@MODELS.register_module()
class SpyncoDiscriminator(GANModule):
    """One discriminator for all outputs of the pyramid, since they share one scale (section 3.2).

    With the defaults it has 2 084 801 parameters, the published 2.085 M: separable 4×4
    convolutions, leaky ReLU 0.2 after each, affine instance norm on all but the first, bias on the
    second convolution of each pair only; then a 1×1 convolution to one map of scores.

    Args:
        in_channels: Channels of the images.
        channels: Filters of each separable convolution.
        strides: Stride of each.
        kernel_size: Taps of each; padding is ``(kernel_size - 1) // 2``, 1 for the default 4.
        norm_cfg: mmcv's config of the norm; None for no norm.
        negative_slope: Of the leaky ReLU.
        fast: As in :class:`~spynco_mm.models.SpyncoGenerator`.
        init_cfg: As in :class:`~spynco_mm.models.base.GANModule`.
    """

    def __init__(
        self,
        in_channels: int = 3,
        channels: Sequence[int] = (64, 128, 256, 512),
        strides: Sequence[int] = (2, 2, 2, 1),
        kernel_size: int = 4,
        norm_cfg: dict | None = dict(type="IN", affine=True),
        negative_slope: float = 0.2,
        fast: bool = True,
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg)
        if len(channels) != len(strides) or not channels:
            raise ValueError(
                "SpyncoDiscriminator needs one stride for each entry of channels, got "
                f"channels={tuple(channels)} and strides={tuple(strides)}."
            )
        require_whole(self, 1, in_channels=in_channels, channels=channels, strides=strides)
        require_whole(self, 1, kernel_size=kernel_size)
        self.in_channels = in_channels
        self.fast = fast
        self.strides = tuple(strides)
        self.kernel_size = kernel_size
        self.padding = (kernel_size - 1) // 2
        blocks = []
        for i, (c_in, c_out, stride) in enumerate(zip([in_channels, *channels], channels, strides)):
            conv = SeparableConv(
                c_in, c_out, kernel_size, stride, self.padding, first_bias=False, fast=fast
            )
            norm = norm_cfg if i else None
            # What instance norm gives is a view, whose gradient would be copied to be changed.
            act = nn.LeakyReLU(negative_slope, inplace=norm is None)
            blocks.append(ConvBlock(conv, c_out, norm, act, fast=fast))
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Conv2d(channels[-1], 1, 1)

    def score_size(self, size: int) -> int:
        """Length of the score map for images of that height or width."""
        for stride in self.strides:
            size = (size + 2 * self.padding - self.kernel_size) // stride + 1
        return size

    def forward(self, x: Tensor) -> Tensor:
        """Scores of N×C×H×W images in [-1, 1]: N×1×h×w, near 1 where they look real.

        Raises:
            ValueError: If the shape does not fit; the message names it and what would fit.
        """
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            raise ValueError(
                f"SpyncoDiscriminator takes N×{self.in_channels}×H×W images, got "
                f"{'×'.join(map(str, x.shape))}."
            )
        height, width = (self.score_size(size) for size in x.shape[-2:])
        # Instance norm needs two values at least, and the last norm sees the score map's size.
        if min(height, width) < 1 or height * width < 2:
            minimum = next(s for s in range(1, 10**6) if self.score_size(s) >= 2)
            raise ValueError(
                f"SpyncoDiscriminator needs images of at least {minimum}×{minimum} pixels, got "
                f"{x.shape[-2]}×{x.shape[-1]}; enlarge the images or lower its strides."
            )
        return self.head(self.blocks(layout(x, self.fast)))
