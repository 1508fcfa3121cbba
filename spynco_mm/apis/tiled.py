"""Colorize a picture that is too large for the network's activations, without a seam.

Instance norm ties every pixel to all others: a network run tile by tile normalises each tile by
itself, and the tiles disagree in colour. Here only the *computation* is tiled. Every norm gets the
statistics of the whole picture, gathered tile by tile before any tile is normalised, so the result
is that of the untiled network up to rounding.

Of the whole picture only the features at the lowest resolution are kept. All that is larger is
computed tile by tile, and again for each norm that comes after it: with the paper's network about
twice the arithmetic of an untiled pass.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from spynco_mm.datasets.images import DataError
from spynco_mm.models import SpyncoGenerator
from spynco_mm.models.layers import ConvBlock

#: Rows and columns [top, bottom, left, right) of a map of features.
Box = Sequence[int]


def _boxes(height: int, width: int, tile: int) -> Iterator[Box]:
    """Tiles of at most tile×tile that cover a map."""
    for top in range(0, height, tile):
        for left in range(0, width, tile):
            yield top, min(top + tile, height), left, min(left + tile, width)


class _Statistics:
    """Mean and variance per channel of a map that is seen tile by tile, in double precision."""

    def __init__(self):
        self.count = 0
        self.mean = self.square = torch.zeros(())

    def add(self, tile: Tensor) -> None:
        """Merge in a 1×C×h×w tile (Chan, Golub & LeVeque 1983)."""
        count = tile.shape[-2] * tile.shape[-1]
        # Not torch.var_mean, which takes three times as long on a CPU.
        mean = tile.mean((2, 3), keepdim=True)
        variance = (tile - mean).square_().mean((2, 3))[0].double().cpu()
        mean = mean.flatten().double().cpu()
        total = self.count + count
        delta = mean - self.mean
        self.square = self.square + variance * count + delta.square() * (self.count * count / total)
        self.mean = self.mean + delta * (count / total)
        self.count = total

    @property
    def variance(self) -> Tensor:
        """As instance norm takes it, divided by n."""
        return self.square / self.count


def _normalizer(norm: nn.Module, statistics: _Statistics | None) -> Callable[[Tensor], Tensor]:
    """The norm as a function of tiles."""
    if statistics is None:
        return norm
    scale = (statistics.variance + norm.eps).rsqrt()
    shift = -statistics.mean * scale
    if norm.affine:
        weight, bias = norm.weight.double().cpu(), norm.bias.double().cpu()
        scale, shift = scale * weight, shift * weight + bias
    scale, shift = scale.float()[:, None, None], shift.float()[:, None, None]
    return lambda tile: torch.addcmul(shift.to(tile.device), tile, scale.to(tile.device))


def _needs_statistics(norm: nn.Module) -> bool:
    """Whether a norm looks at the whole picture."""
    if isinstance(norm, nn.InstanceNorm2d) and not norm.track_running_stats:
        return True
    if isinstance(norm, (nn.Identity, nn.BatchNorm2d, nn.InstanceNorm2d)):
        return False
    raise DataError(
        f"Only instance norm and batch norm can be tiled, not {type(norm).__name__}; make the "
        "picture smaller, or use a working size."
    )


def _view(features: Tensor, box: Box) -> Tensor:
    top, bottom, left, right = box
    return features[..., top:bottom, left:right]


def _on_box(
    function: Callable[[Tensor], Tensor],
    source: Callable[[Box], Tensor],
    size: "tuple[int, int]",
    box: Box,
    down: int,
    up: int,
    reach: int,
) -> Tensor:
    """A box of ``function`` of the whole source, from only as much of it as the box depends on.

    The cut-out ends at the picture's border or ``reach`` beyond the box. What the function pads
    there is right at the border, and cropped off elsewhere.
    """
    cut, crop = [], []
    for first, last, length in zip(box[::2], box[1::2], size):
        start = max(first * down // up - reach, 0)
        cut += [start, min(-(-last * down // up) + reach, length)]
        crop += [first - start * up // down, last - start * up // down]
    return _view(function(source(cut)), crop)


def _half_kernel(conv: nn.Module) -> int:
    """How far the widest convolution in a module looks to either side."""
    return max(max(m.kernel_size) // 2 for m in conv.modules() if isinstance(m, nn.Conv2d))


class _Layer:
    """A convolution, its norm and its activation, over a map that need never be whole.

    Args:
        source: The map below, as a function of a box.
        size: Its height and width.
        block: The block of the generator.
        down, up: How the block changes the size.
        reach: How many positions of the source beyond a box its result in the box depends on.
        tile: Side of the tiles, in positions of the result.
    """

    def __init__(
        self,
        source: Callable[[Box], Tensor],
        size: "tuple[int, int]",
        block: ConvBlock,
        down: int,
        up: int,
        reach: int,
        tile: int,
    ):
        self.source, self.source_size = source, size
        self.size = tuple(side * up // down for side in size)
        self.down, self.up, self.reach, self.tile = down, up, reach, tile
        self.norm, self.act, self.block = block.norm, block.act, block

    def convolve(self, box: Box) -> Tensor:
        """The convolution's result in a box."""
        return _on_box(
            self.block.convolve,
            self.source,
            self.source_size,
            box,
            self.down,
            self.up,
            self.reach,
        )

    def gather(self) -> None:
        """Take the statistics of the whole map, if the norm wants them."""
        statistics = None
        if _needs_statistics(self.norm):
            statistics = _Statistics()
            for box in _boxes(*self.size, self.tile):
                statistics.add(self.convolve(box))
        self.normalize = _normalizer(self.norm, statistics)

    def __call__(self, box: Box) -> Tensor:
        """Features in a box, once the statistics are there."""
        return self.act(self.normalize(self.convolve(box)))

    def whole(self) -> Tensor:
        """The whole map; every tile is computed once, and normalised where it lies."""
        statistics = _Statistics() if _needs_statistics(self.norm) else None
        result = None
        for box in _boxes(*self.size, self.tile):
            tile = self.convolve(box)
            if result is None:
                result = tile.new_empty(1, tile.shape[1], *self.size)
            if statistics is not None:
                statistics.add(tile)
            _view(result, box).copy_(tile)
        normalize = _normalizer(self.norm, statistics)
        for box in _boxes(*self.size, self.tile):
            view = _view(result, box)
            view.copy_(self.act(normalize(view)))
        return result


def _residual_in_place(features: Tensor, block: ConvBlock, tile: int) -> None:
    """``x + act(norm(conv(x)))`` without a second map of that size; the convolution runs twice.

    It goes in bands over the whole width, of as many positions as a tile has, and remembers the old
    values of the rows that the next band still needs.
    """
    height, width = features.shape[-2:]
    reach = _half_kernel(block.conv)
    rows = max(4, reach, tile * tile // width)
    bands = [(top, min(top + rows, height)) for top in range(0, height, rows)]

    def convolve(top: int, bottom: int, above: Tensor) -> Tensor:
        below = features[..., top : min(bottom + reach, height), :]
        band = block.conv(torch.cat([above, below], -2))
        return band[..., above.shape[-2] : above.shape[-2] + bottom - top, :]

    statistics = None
    if _needs_statistics(block.norm):
        statistics = _Statistics()
        for top, bottom in bands:
            above = features[..., max(top - reach, 0) : top, :]
            statistics.add(convolve(top, bottom, above))
    normalize = _normalizer(block.norm, statistics)

    above = features[..., :0, :]
    for top, bottom in bands:
        band = convolve(top, bottom, above)
        above = features[..., max(bottom - reach, 0) : bottom, :].clone()
        features[..., top:bottom, :] += block.act(normalize(band))


def can_tile(generator: nn.Module) -> bool:
    """Whether :func:`tiled_pyramid` knows this network."""
    return isinstance(generator, SpyncoGenerator)


@torch.no_grad()
def tiled_pyramid(
    generator: SpyncoGenerator,
    image: Tensor,
    write: Callable[[int, Box, Tensor], None],
    outputs: Sequence[int] = (1,),
    tile: int = 256,
    device: torch.device | None = None,
) -> None:
    """The outputs of ``generator(image)`` in evaluation mode, in a fraction of its memory.

    Peak memory, beyond the picture: 4·C·H·W / 4^num_down bytes for the C channels of the lowest
    resolution, and some tiles. For the paper's network that is 64 bytes per pixel.

    Args:
        generator: The network, in evaluation mode.
        image: 1×C×H×W in [-1, 1] with C = 1 or in_channels; H and W multiples of the generator's
            stride, and not below its minimum.
        write: Called with i, a box and the 1×3×h×w values of G_i in it, in [-1, 1], until the boxes
            of every output cover the picture.
        outputs: Which outputs i, 1 for the final one. What none of them needs is not computed.
        tile: Side of the tiles, in pixels of the picture.
        device: Where the network is; None for where the image is.

    Raises:
        ValueError: The network, its norm or the size does not fit.
    """
    if not can_tile(generator):
        raise ValueError(
            f"Only SpyncoGenerator can be tiled, not {type(generator).__name__}; make the picture "
            "smaller, or use a working size."
        )
    size, stride = tuple(image.shape[-2:]), generator.stride
    if image.shape[0] != 1 or any(s % stride or s < generator.min_size for s in size):
        raise ValueError(
            f"tiled_pyramid takes one image whose sides are multiples of {stride} and at least "
            f"{generator.min_size}, got {'×'.join(map(str, image.shape))}."
        )
    device = image.device if device is None else device
    tile = max(tile // stride, generator.min_size) * stride
    # Bilinear interpolation looks one position further each time.
    bilinear = int(generator.mapping.mode == "bilinear")

    def source(box: Box) -> Tensor:
        return _view(image, box).to(device).expand(-1, generator.in_channels, -1, -1)

    below, size_below = source, size
    for level, block in enumerate(generator.encoder):
        down = 2 if level else 1
        # A whole number of strides, so that the cut-out's grid is the picture's.
        reach = -(-_half_kernel(block.conv) // down) * down
        layer = _Layer(below, size_below, block, down, 1, reach, tile >> level)
        if block is generator.encoder[-1]:
            features = layer.whole()
        else:
            layer.gather()
        below, size_below = layer, layer.size

    for block in generator.residual:
        _residual_in_place(features, block, tile // stride)

    levels = [(lambda box: _view(features, box), size_below)]
    for level, block in enumerate(generator.decoder, start=1):
        if level > len(generator.decoder) + 1 - min(outputs):
            break
        reach = -(-_half_kernel(block.conv) // 2) + bilinear
        side = tile >> (len(generator.decoder) - level)
        layer = _Layer(*levels[-1], block, 1, 2, reach, side)
        layer.gather()
        levels.append((layer, layer.size))

    for i in outputs:
        times = i - 1
        below, size_below = levels[len(generator.decoder) - times]
        reach = -(-_half_kernel(generator.mapping) // 2**times) + times * bilinear
        for box in _boxes(*size, tile):
            output = _on_box(
                lambda x, times=times: generator.mapping(x, times),
                below,
                size_below,
                box,
                1,
                2**times,
                reach,
            )
            output = generator.activate(output)
            if generator.consistency is not None:
                output = generator.consistency(output, source(box))
            write(i, box, output)
