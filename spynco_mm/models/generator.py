"""SpyncoGan's generator: an encoder-decoder whose decoder answers at every scale (Figure 4a)."""

import itertools

import torch
from mmagic.registry import MODELS
from torch import Tensor, nn

from .adapter import COPIES
from .base import GANModule, require_whole
from .layers import Conv2d, ConvBlock, MappingConv, ResidualBlock, SeparableConv, UpsampleBlock
from .ops.layout import layout
from .ops.padding import pad_to_fit
from .ops.samples import few_at_a_time


@MODELS.register_module()
class SpyncoGenerator(GANModule):
    """Grey image in, Output Spatial Pyramid out (sections 3.2 and 4.1).

    With the defaults it has 4 977 923 parameters, the published 4.978 M. Sizes are given for
    H×W inputs and ``num_down = 2``::

        stem      9×9            in → 64        H × W
        down      separable 5×5  64 → 128       H/2 × W/2
        down      separable 5×5  128 → 256      H/4 × W/4
        residual  3×3, six times 256 → 256      H/4 × W/4     ─┐ G_3
        up        separable 3×3  256 → 256      H/2 × W/2      ├ G_2  upsampled, then one shared
        up        separable 3×3  256 → 256      H × W         ─┘ G_1  5×5 mapping 256 → out, tanh

    Args:
        in_channels: Channels of the input; grey is replicated over three (section 4.2).
        out_channels: Channels of the output.
        base_channels: Width of the stem; it doubles with every halving of the size.
        num_down: How many times the size is halved.
        num_blocks: Residual blocks, of one convolution each.
        num_outputs: N, the outputs of the pyramid, at most ``num_down + 1``. Has no influence on
            the parameters, since the mapping is shared.
        stem_kernel, down_kernel, residual_kernel, up_kernel, mapping_kernel: Odd kernel sizes.
        norm_cfg: mmcv's config of the norm; None for no norm.
        padding_mode: ``"zeros"``, ``"reflect"`` or ``"replicate"``.
        upsample_mode: ``"nearest"`` or ``"bilinear"`` (Eq. 2).
        consistency: Config of an :class:`~spynco_mm.models.ExactConsistency`, which then projects
            every output; None, the paper's choice, for none.
        return_pyramid: Whether a plain call returns the pyramid. False makes it return the final
            output as one tensor, as mmagic's CycleGAN and Pix2Pix expect of a generator.
        fast: Whether to use the fast forms of :mod:`~spynco_mm.models.ops`. False computes
            everything as the paper writes it; second derivatives need that. Both give the same up
            to rounding. A block with hooks inside never uses them.
        init_cfg: As in :class:`~spynco_mm.models.base.GANModule`.

    Raises:
        ValueError: If an argument is out of its range.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        base_channels: int = 64,
        num_down: int = 2,
        num_blocks: int = 6,
        num_outputs: int = 3,
        stem_kernel: int = 9,
        down_kernel: int = 5,
        residual_kernel: int = 3,
        up_kernel: int = 3,
        mapping_kernel: int = 5,
        norm_cfg: dict | None = dict(type="IN"),
        padding_mode: str = "zeros",
        upsample_mode: str = "nearest",
        consistency: dict | None = None,
        return_pyramid: bool = True,
        fast: bool = True,
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg)
        kernels = dict(
            stem_kernel=stem_kernel,
            down_kernel=down_kernel,
            residual_kernel=residual_kernel,
            up_kernel=up_kernel,
            mapping_kernel=mapping_kernel,
        )
        require_whole(self, 1, in_channels=in_channels, out_channels=out_channels)
        require_whole(self, 1, base_channels=base_channels)
        require_whole(self, 0, num_down=num_down, num_blocks=num_blocks)
        for name, size in kernels.items():
            if size < 1 or size % 2 == 0:
                raise ValueError(
                    f"{type(self).__name__}: {name} must be odd and positive, got {size}."
                )
        if not 1 <= num_outputs <= num_down + 1:
            raise ValueError(
                f"{type(self).__name__}: num_outputs must be between 1 and num_down + 1 = "
                f"{num_down + 1}, got {num_outputs}."
            )
        if upsample_mode not in ("nearest", "bilinear"):
            raise ValueError(
                f"{type(self).__name__}: upsample_mode is 'nearest' or 'bilinear', not "
                f"'{upsample_mode}'."
            )
        self.in_channels = in_channels
        self.num_outputs = num_outputs
        self.return_pyramid = return_pyramid
        self.fast = fast
        self.stride = 2**num_down
        # Four features a side at the lowest scale, or more where a kernel reflects a wider border.
        self.min_size = 4 * self.stride
        if padding_mode == "reflect":
            half = max(1, self.stride // 2)
            scales = dict(zip(kernels, (1, half, self.stride, half, 1)))
            reach = (scales[name] * (size // 2 + 1) for name, size in kernels.items())
            self.min_size = max(self.min_size, *reach)

        def conv(c_in: int, c_out: int, k: int, cls=Conv2d, **kwargs) -> nn.Module:
            return cls(c_in, c_out, k, padding=k // 2, padding_mode=padding_mode, **kwargs)

        def block(cls, conv: nn.Module, channels: int, **kwargs) -> nn.Module:
            return cls(conv, channels, norm_cfg, nn.ReLU(inplace=True), fast=fast, **kwargs)

        width = base_channels
        encoder = [block(ConvBlock, conv(in_channels, width, stem_kernel), width)]
        for _ in range(num_down):
            down = conv(width, 2 * width, down_kernel, SeparableConv, stride=2, fast=fast)
            width *= 2
            encoder.append(block(ConvBlock, down, width))
        self.encoder = nn.Sequential(*encoder)
        self.residual = nn.Sequential(
            *(
                block(ResidualBlock, conv(width, width, residual_kernel), width)
                for _ in range(num_blocks)
            )
        )
        widths = self.decoder_widths(width, num_down)
        self.decoder = nn.ModuleList(
            block(
                UpsampleBlock,
                conv(c_in, c_out, up_kernel, SeparableConv),
                c_out,
                mode=upsample_mode,
            )
            for c_in, c_out in itertools.pairwise(widths)
        )
        self.mapping = conv(
            widths[-1], out_channels, mapping_kernel, MappingConv, mode=upsample_mode, fast=fast
        )
        self.consistency = None if consistency is None else MODELS.build(consistency)

    @staticmethod
    def decoder_widths(width: int, num_up: int) -> "list[int]":
        """Filters before the first and after each upsampling: constant, for one shared mapping."""
        return [width] * (num_up + 1)

    def forward(self, x: Tensor, num_outputs: int | None = None) -> list[Tensor] | Tensor:
        """Colorize a batch (Eq. 3).

        Args:
            x: N×in_channels×H×W in [-1, 1]. In training H and W are multiples of ``stride``; in
                evaluation any size is padded by reflection and the outputs cropped.
            num_outputs: How many outputs to compute, final output first; the others cost nothing.
                None means all N.

        Returns:
            ``[G_1(x), ..., G_n(x)]``, each N×out_channels×H×W in [-1, 1], or G_1(x) alone if the
            generator was built with ``return_pyramid=False`` and ``num_outputs`` is None.

        Raises:
            ValueError: If the shape does not fit; the message names it and what would fit.
        """
        single = num_outputs is None and not self.return_pyramid
        n = 1 if single else self.num_outputs if num_outputs is None else num_outputs
        if not 1 <= n <= self.num_outputs:
            raise ValueError(
                f"{type(self).__name__} has {self.num_outputs} outputs, so it cannot give {n}."
            )
        height, width = self._check(x)
        # This pads in evaluation only: in training the size fits, see _check.
        x = layout(pad_to_fit(x, self.stride), self.fast)

        features = [self.residual(self.encoder(x))]
        for up in self.decoder[:-1]:
            features.append(up(features[-1]))
        few = self.fast and all(up.per_sample for up in self.decoder[-1:])
        outputs = [few_at_a_time(self._final, features[-1], few)]
        outputs += [self.activate(self.mapping(features[-i], i)) for i in range(1, n)]
        if self.consistency is not None:
            outputs = [self.consistency(output, x) for output in outputs]
        outputs = [output[..., :height, :width] for output in outputs]
        return outputs[0] if single else outputs

    @property
    def values_per_pixel(self) -> int:
        """Values that are alive at once in evaluation, at the widest point, as measured."""
        return max(COPIES * self.mapping.in_channels, self.mapping.values_per_pixel)

    def _final(self, x: Tensor) -> Tensor:
        """G_1 of the features before the last upsampling, the features of full size in between.

        Those are the largest of the network, so they are kept for the backward pass only once:
        before their ReLU, as the norm needs them, which the mapping then applies.
        """
        slope = 1.0
        for up in self.decoder[-1:]:
            x, slope = up.before_act(x)
        return self.activate(self.mapping(x, 0, slope))

    def activate(self, x: Tensor) -> Tensor:
        """tanh of what the mapping gives, or of the part of it that the consistency leaves."""
        return torch.tanh(x) if self.consistency is None else self.consistency.activate(x)

    def _check(self, x: Tensor) -> "tuple[int, int]":
        if not isinstance(x, Tensor):
            raise ValueError(
                f"{type(self).__name__} takes a tensor, got a {type(x).__name__}; where generators "
                "follow each other, as in mmagic's CycleGAN, build it with return_pyramid=False."
            )
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            raise ValueError(
                f"{type(self).__name__} takes N×{self.in_channels}×H×W images, got "
                f"{'×'.join(map(str, x.shape))}; a grey image is replicated over the channels."
            )
        height, width = x.shape[-2:]
        if min(height, width) < self.min_size:
            raise ValueError(
                f"{type(self).__name__} needs images of at least {self.min_size}×{self.min_size} "
                f"pixels, got {height}×{width}; enlarge or pad them first."
            )
        if self.training and (height % self.stride or width % self.stride):
            raise ValueError(
                f"{type(self).__name__} trains on sizes that are multiples of {self.stride}, got "
                f"{height}×{width}; crop or resize the training images."
            )
        return height, width
