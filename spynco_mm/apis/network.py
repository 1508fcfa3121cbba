"""How grey pictures become coloured ones: whole, in tiles, or from a reduced copy."""

import time
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from spynco_mm.datasets.images import DataError
from spynco_mm.models.adapter import AnyGenerator
from spynco_mm.models.ops.padding import pad_to_fit

from .guided import bicubic
from .hints import Layer
from .loading import Colorization
from .projection import Projection, as_planes, quantize
from .tiled import Box, can_tile, tiled_pyramid

#: A line is padded to many times its size: one that is longer is colorized from a copy so long.
LONGEST_LINE = 8192


def find_device(device: str | torch.device | None) -> torch.device:
    """The device of this name; None for the GPU if there is one.

    Raises:
        ValueError: There is none.
    """
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"Colorizer: torch knows no device '{device}'; try 'cpu'.") from error
    if found.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"Colorizer: there is no device '{device}'; torch sees no GPU.")
    return found


class GrayNetwork:
    """A trained generator that takes grey pictures of any sizes.

    Args:
        loaded: The generator and what surrounds it.
        device: Where to compute.
        raw, saturation, output, working_size, memory, batch_size: As for
            :class:`~spynco_mm.apis.Colorizer`.

    Raises:
        ValueError: An argument is out of its range.
    """

    def __init__(
        self,
        loaded: Colorization,
        device: torch.device,
        *,
        raw: bool,
        saturation: float,
        output: int | str,
        working_size: int | None,
        memory: int | None,
        batch_size: int,
    ):
        self.device = device
        self.generator: nn.Module = loaded.generator.to(self.device)
        self._run = AnyGenerator(self.generator)
        self.translation = loaded.translation
        self.mean, self.std, self.bgr = loaded.mean, loaded.std, loaded.bgr
        self.in_channels = loaded.in_channels
        self.num_outputs = self._run.num_outputs
        if output != "all" and output not in range(1, self.num_outputs + 1):
            raise ValueError(
                f"Colorizer: this generator has the outputs 1 to {self.num_outputs}, and 'all'; "
                f"there is no output {output!r}."
            )
        self.outputs = list(range(1, self.num_outputs + 1)) if output == "all" else [output]
        self.all_outputs = output == "all"
        if working_size is not None and working_size < 1:
            raise ValueError(f"Colorizer: working_size must be at least 1, got {working_size}.")
        if batch_size < 1:
            raise ValueError(f"Colorizer: batch_size must be at least 1, got {batch_size}.")
        self.working_size = working_size
        self.batch_size = batch_size
        if memory is None:
            free = (
                torch.cuda.mem_get_info(self.device)[0] if self.device.type == "cuda" else 4 << 30
            )
            memory = free // 2
        #: Pixels of an untiled pass.
        self.pass_pixels = max(memory // self._run.bytes_per_pixel(), 1)
        if raw and (working_size is not None or saturation != 1):
            raise ValueError(
                "Colorizer: raw=True leaves out the projection, which a working_size and a "
                "saturation are done by; leave out one or the other."
            )
        #: How the outputs are projected, None for not at all.
        self.projection = None if raw else Projection(self.translation, saturation)
        self.network_seconds = 0.0

    def passes(self, sizes: Sequence["tuple[int, int]"]) -> Iterator[list[int]]:
        """Which pictures go through the network together: of one size, as many as fit.

        Args:
            sizes: Height and width of each; anything that is equal for pictures that go together.

        Yields:
            Indices.
        """
        groups: dict = {}
        for index, size in enumerate(sizes):
            groups.setdefault(size, []).append(index)
        for (height, width, *_), indices in groups.items():
            step = max(1, min(self.batch_size, self.pass_pixels // max(height * width, 1)))
            for start in range(0, len(indices), step):
                yield indices[start : start + step]

    @torch.no_grad()
    def colorize_gray(
        self,
        grays: Sequence[np.ndarray],
        dtypes: Sequence[np.dtype],
        layers: Sequence[Layer | None] | None = None,
    ) -> list[list[np.ndarray]]:
        """Colorize grey pictures of any sizes.

        Args:
            grays: H×W float32 in [0, 255] each, or H×W×C_A where A has several channels.
            dtypes: Type of each result: uint8, uint16, or float32 in [0, 1].
            layers: What hints paint on each, or None.

        Returns:
            For each picture its outputs H×W×C_B, RGB where C_B = 3, in the order of ``outputs``.
        """
        results: list = [None] * len(grays)
        layers = layers or [None] * len(grays)
        # One with hints goes alone.
        alone = [i if layer is not None else None for i, layer in enumerate(layers)]
        keys = [(*g.shape[:2], np.dtype(d), a) for g, d, a in zip(grays, dtypes, alone)]
        for indices in self.passes(keys):
            projection, layer = self.projection, layers[indices[0]]
            if layer is not None:
                projection = projection.painted(layer)
            gray = as_planes(np.stack([grays[i] for i in indices]))
            dtype = np.dtype(dtypes[indices[0]])
            started = time.perf_counter()
            size = self.working_size
            if min(gray.shape[2:]) < self._run.stride and max(gray.shape[2:]) > LONGEST_LINE:
                size = min(size or LONGEST_LINE, LONGEST_LINE)
            if size is None:
                outputs = self._full_size(gray, dtype, projection)
            else:
                outputs = self._reduced(gray, dtype, size, projection)
            self.network_seconds += time.perf_counter() - started
            for position, index in enumerate(indices):
                results[index] = [output[position] for output in outputs]
        return results

    def _full_size(
        self, gray: Tensor, dtype: np.dtype, projection: Projection | None
    ) -> list[np.ndarray]:
        """N×C_A×H×W in [0, 255], of one size, to N×H×W×C_B for each output."""
        n, _, height, width = gray.shape
        shape = (n, height, width, self.translation.in_channels)
        results = [np.empty(shape, dtype) for _ in self.outputs]
        smallest = self._run.min_size
        image = pad_to_fit((gray - self.mean) / self.std, self._run.stride, smallest)
        if image[:, 0].numel() <= max(self.pass_pixels, smallest * smallest * n):
            image = image.to(self.device).expand(-1, self.in_channels, -1, -1)
            pyramid = self._run(image, max(self.outputs))
            for i, result in zip(self.outputs, results):
                self._write(result, 0, 0, pyramid[i - 1], gray, projection)
        elif can_tile(self.generator):
            for k in range(n):
                one = slice(k, k + 1)
                self._tiled([r[one] for r in results], image[one], gray[one], projection)
        else:
            raise DataError(
                f"{width}×{height} pixels are more than {type(self.generator).__name__} can "
                "colorize in this memory; use a working size, or allow more memory."
            )
        return results

    def _tiled(
        self,
        results: list[np.ndarray],
        image: Tensor,
        gray: Tensor,
        projection: Projection | None,
    ) -> None:
        """Compute the results, 1×H×W×C_B for each output, of one padded image tile by tile."""
        by_output = dict(zip(self.outputs, results))

        def write(i: int, box: Box, values: Tensor) -> None:
            self._write(by_output[i], box[0], box[2], values, gray, projection)

        tiled_pyramid(self.generator, image, write, self.outputs, device=self.device)

    def _write(
        self,
        result: np.ndarray,
        top: int,
        left: int,
        values: Tensor,
        gray: Tensor,
        projection: Projection | None,
    ) -> None:
        """Write what the network gave from a row and column on, cropped where it is padding."""
        rgb = values.flip(1) if self.bgr else values
        target = result[:, top : top + rgb.shape[2], left : left + rgb.shape[3]]
        height, width = target.shape[1:3]
        rgb = rgb[..., :height, :width].cpu() * self.std + self.mean
        if projection is None:
            target[...] = quantize(rgb, target.dtype)
        else:
            gray = gray[..., top : top + height, left : left + width]
            target[...] = projection(rgb, gray, target.dtype, (top, left))

    def _reduced(
        self, gray: Tensor, dtype: np.dtype, longest: int, projection: Projection | None
    ) -> list[np.ndarray]:
        """As :meth:`_full_size`, with the chroma of a copy of at most so many pixels a side."""
        size = gray.shape[-2:]
        scale = min(1.0, longest / max(size))
        small = [max(1, round(side * scale)) for side in size]
        reduced = gray
        if scale < 1:
            reduced = bicubic(gray, small).clamp(0, 255)
        results = []
        for small_output in self._full_size(reduced, np.dtype(np.float32), None):
            color = torch.from_numpy(small_output).permute(0, 3, 1, 2) * 255
            if projection is None:  # raw, and the picture a long line
                results.append(quantize(bicubic(color, size), dtype))
            else:
                results.append(projection(projection.resized(color, gray), gray, dtype))
        return results
