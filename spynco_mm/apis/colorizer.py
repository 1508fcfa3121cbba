"""Colorize pictures of any kind and size with a trained generator."""

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.config import Config
from PIL import Image
from torch import Tensor, nn

from spynco_mm.datasets.images import DataError
from spynco_mm.models.adapter import AnyGenerator
from spynco_mm.models.ops.padding import pad_to_fit

from .loading import PathLike, load_colorization, split_config_and_checkpoint
from .pictures import Picture, grey_if_grey, picture_of, read_picture
from .projection import Projection, quantize, resized, to_gray
from .tiled import can_tile, tiled_pyramid

#: A line is padded to many times its size: one that is longer is colorized from a copy so long.
LONGEST_LINE = 8192


class Colorizer:
    """Colorizes grey pictures; coloured ones are turned grey first, with the model's H_t.

    ::

        colorize = Colorizer("work_dirs/spynco_demo/epoch_10.pth")
        colorize("old.jpg").save("new.jpg")

    ===============================================  ============================================
    what goes in                                     what comes out
    ===============================================  ============================================
    path of a picture file                           PIL image, 8-bit RGB, or RGBA if it had alpha
    PIL image of any mode but ``F``                  the same
    array H×W, H×W×1 or H×W×3, uint8 or uint16, RGB  H×W×3, the same type
    tensor H×W, 1×H×W or 3×H×W, RGB, uint8, or       3×H×W, the same type, on the same device
    floating point in [0, 1]
    array N×H×W×C, tensor N×C×H×W                    a batch of the same kind
    list or tuple of any of these, of any sizes      list
    ===============================================  ============================================

    With ``output="all"`` each picture gives the list ``[G_1, ..., G_N]`` of what it says above.

    Any size from 1×1 on is taken: pictures are extended by reflection to what the network needs,
    and the results cropped. Those whose activations would not fit ``memory`` are computed in tiles,
    with the same result (see :mod:`spynco_mm.apis.tiled`).

    Args:
        config_or_checkpoint: A checkpoint, which carries its config; or a config, with the
            checkpoint as the second argument. The config in a checkpoint is read, not executed, and
            the weights are loaded with ``weights_only``, so a stranger's checkpoint can do no harm.
            A config given as a file or ``Config`` is yours and is executed.
        checkpoint: The checkpoint, if a config comes first.
        device: Where to compute; None for the GPU if there is one.
        raw: Give what the network makes. By default it is projected onto the pictures whose grey,
            by H_t, is the input, see :class:`~spynco_mm.apis.Projection`.
        saturation: Factor of the chroma. The grey stays, so no pixel gets more than is in range.
        output: Which output of the pyramid, 1 for the final one, or ``"all"``. With 1 no other is
            computed.
        working_size: Colorize a copy that is reduced until its longer side has so many pixels, and
            apply only its chroma at full resolution: H_t of the result is the full-resolution grey,
            exactly. None colorizes at full resolution.
        memory: Bytes for the activations of an untiled pass. None means 2 GiB on the CPU, and half
            of what is free on a GPU.
        batch_size: Pictures of one size in a pass, at most.

    Attributes:
        generator: The network.
        translation: H_t.
        num_outputs: N.
        network_seconds: Time spent in the network so far.

    Raises:
        CheckpointError: The checkpoint cannot be used.
        ValueError: An argument is out of its range.
    """

    def __init__(
        self,
        config_or_checkpoint: PathLike | Config,
        checkpoint: PathLike | None = None,
        *,
        device: str | torch.device | None = None,
        raw: bool = False,
        saturation: float = 1.0,
        output: int | str = 1,
        working_size: int | None = None,
        memory: int | None = None,
        batch_size: int = 8,
    ):
        config, checkpoint = split_config_and_checkpoint(config_or_checkpoint, checkpoint)
        if device is None:
            device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            self.device = torch.device(device)
        except RuntimeError as error:
            raise ValueError(f"Colorizer: torch knows no device '{device}'; try 'cpu'.") from error
        if self.device.type == "cuda" and not torch.cuda.is_available():
            raise ValueError(f"Colorizer: there is no device '{device}'; torch sees no GPU.")
        loaded = load_colorization(checkpoint, config)
        self.generator: nn.Module = loaded.generator.to(self.device)
        self._run = AnyGenerator(self.generator)
        self.translation = loaded.translation
        self.mean, self.std, self.bgr = loaded.mean, loaded.std, loaded.bgr
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

    # ------------------------------------------------------------------------------- kinds of input

    def __call__(self, images: Any) -> Any:
        """Colorize a picture or a batch; see the table above.

        Raises:
            DataError: A picture file cannot be read, or a picture is too large.
            TypeError: Something is no picture.
            ValueError: An array or tensor has no shape or values of a picture.
        """
        if isinstance(images, (list, tuple)):
            return self._colorize(images)
        if isinstance(images, (np.ndarray, Tensor)) and images.ndim == 4:
            results = self._colorize(list(images))
            stack = np.stack if isinstance(images, np.ndarray) else torch.stack
            if self.all_outputs:
                return [stack(output) for output in zip(*results)]
            return stack(results)
        return self._colorize([images])[0]

    def _colorize(self, images: Sequence[Any]) -> list:
        grays, dtypes, pictures = [], [], []
        for image in images:
            if isinstance(image, Tensor):
                gray, dtype, picture = *self._tensor(image), None
            else:
                picture = self._picture(image)
                gray, dtype = to_gray(picture.pixels, self.translation), picture.pixels.dtype
            grays.append(gray)
            dtypes.append(dtype)
            pictures.append(picture)
        results = self.colorize_gray(grays, dtypes)
        wrapped = [
            [self._wrap(image, picture, output) for output in outputs]
            for image, picture, outputs in zip(images, pictures, results)
        ]
        return wrapped if self.all_outputs else [outputs[0] for outputs in wrapped]

    @staticmethod
    def _picture(image: Any) -> Picture:
        if isinstance(image, (str, os.PathLike)):
            return read_picture(Path(image))
        if isinstance(image, Image.Image):
            return picture_of(image)
        if not isinstance(image, np.ndarray):
            raise TypeError(
                "Colorizer takes paths, PIL images, arrays and tensors, not "
                f"{type(image).__name__}."
            )
        if image.dtype not in (np.uint8, np.uint16):
            raise ValueError(
                f"Colorizer takes arrays of uint8 or uint16, got {image.dtype}; convert it, for "
                "example with (255 * image).round().astype('uint8')."
            )
        fits = image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (1, 3))
        if not fits or 0 in image.shape:
            raise ValueError(
                "Colorizer takes arrays H×W, H×W×1 or H×W×3, got "
                f"{'×'.join(map(str, image.shape))}."
            )
        return Picture(image[..., 0] if image.shape[2:] == (1,) else grey_if_grey(image))

    def _tensor(self, image: Tensor) -> "tuple[np.ndarray, np.dtype]":
        """The grey picture of a tensor, and the type in which it comes back from the network."""
        planes = image[None] if image.ndim == 2 else image
        if planes.ndim != 3 or planes.shape[0] not in (1, 3) or 0 in planes.shape:
            raise ValueError(
                "Colorizer takes tensors H×W, 1×H×W or 3×H×W, got "
                f"{'×'.join(map(str, image.shape))}."
            )
        planes = planes.detach().cpu()
        if planes.dtype == torch.uint8:
            pixels = planes.permute(1, 2, 0).numpy()
            pixels = pixels[..., 0] if len(planes) == 1 else grey_if_grey(pixels)
            return to_gray(pixels, self.translation), np.dtype(np.uint8)
        if not planes.is_floating_point() or not 0 <= planes.min() <= planes.max() <= 1:
            raise ValueError(
                "Colorizer takes tensors of uint8, or of floating point in [0, 1], got "
                f"{image.dtype} from {planes.min().item()} to {planes.max().item()}."
            )
        gray = self.translation.to_domain_a(planes[None].float())[0, 0] * 255
        return gray.numpy(), np.dtype(np.float32)

    @staticmethod
    def _wrap(image: Any, picture: Picture | None, output: np.ndarray) -> Any:
        """A result, as the kind of the picture it was made from."""
        if isinstance(image, Tensor):
            result = torch.from_numpy(output).permute(2, 0, 1).contiguous()
            return result.to(image.device, image.dtype)
        if isinstance(image, np.ndarray):
            return output
        if picture.alpha is not None:
            output = np.concatenate([output, picture.alpha[..., None]], axis=2)
        if output.dtype == np.uint16:
            output = (output >> 8).astype(np.uint8)  # Pillow has no 16-bit RGB
        result = Image.fromarray(output)
        result.info.update(picture.metadata)
        return result

    def colorize_pictures(self, pictures: Sequence[Picture]) -> list[list[Picture]]:
        """Colorize pictures with all that they carry: bit depth, transparency, metadata.

        Returns:
            For each picture its outputs, in the order of ``outputs``.
        """
        grays = [to_gray(picture.pixels, self.translation) for picture in pictures]
        results = self.colorize_gray(grays, [picture.pixels.dtype for picture in pictures])
        return [
            [Picture(output, picture.alpha, picture.metadata, picture.note) for output in outputs]
            for picture, outputs in zip(pictures, results)
        ]

    # ---------------------------------------------------------------------------------- the network

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
        self, grays: Sequence[np.ndarray], dtypes: Sequence[np.dtype]
    ) -> list[list[np.ndarray]]:
        """Colorize grey pictures of any sizes.

        Args:
            grays: H×W float32 in [0, 255] each.
            dtypes: Type of each result: uint8, uint16, or float32 in [0, 1].

        Returns:
            For each picture its outputs H×W×3, RGB, in the order of ``outputs``.
        """
        results: list = [None] * len(grays)
        for indices in self.passes([(*g.shape, np.dtype(d)) for g, d in zip(grays, dtypes)]):
            gray = torch.from_numpy(np.stack([grays[i] for i in indices]))[:, None]
            dtype = np.dtype(dtypes[indices[0]])
            started = time.perf_counter()
            size = self.working_size
            if min(gray.shape[2:]) < self._run.stride and max(gray.shape[2:]) > LONGEST_LINE:
                size = min(size or LONGEST_LINE, LONGEST_LINE)
            if size is None:
                outputs = self._full_size(gray, dtype, self.projection)
            else:
                outputs = self._reduced(gray, dtype, size)
            self.network_seconds += time.perf_counter() - started
            for position, index in enumerate(indices):
                results[index] = [output[position] for output in outputs]
        return results

    def _full_size(
        self, gray: Tensor, dtype: np.dtype, projection: Projection | None
    ) -> list[np.ndarray]:
        """N×1×H×W in [0, 255], of one size, to N×H×W×3 for each output."""
        n, _, height, width = gray.shape
        results = [np.empty((n, height, width, 3), dtype) for _ in self.outputs]
        smallest = self._run.min_size
        image = pad_to_fit((gray - self.mean) / self.std, self._run.stride, smallest)

        def write(result: np.ndarray, wanted: Tensor, top: int, left: int, values: Tensor) -> None:
            rgb = values.flip(1) if self.bgr else values
            target = result[:, top : top + rgb.shape[2], left : left + rgb.shape[3]]
            height, width = target.shape[1:3]
            rgb = rgb[..., :height, :width].cpu() * self.std + self.mean
            if projection is None:
                target[...] = quantize(rgb, dtype)
            else:
                wanted = wanted[..., top : top + height, left : left + width]
                target[...] = projection(rgb, wanted, dtype)

        if image[:, 0].numel() <= max(self.pass_pixels, smallest * smallest * n):
            image = image.to(self.device).expand(-1, 3, -1, -1)
            pyramid = self._run(image, max(self.outputs))
            for i, result in zip(self.outputs, results):
                write(result, gray, 0, 0, pyramid[i - 1])
        elif can_tile(self.generator):
            for position in range(n):
                by_output = dict(zip(self.outputs, results))
                tiled_pyramid(
                    self.generator,
                    image[position : position + 1],
                    lambda i, box, values, p=position, r=by_output: write(
                        r[i][p : p + 1], gray[p : p + 1], box[0], box[2], values
                    ),
                    self.outputs,
                    device=self.device,
                )
        else:
            raise DataError(
                f"{width}×{height} pixels are more than {type(self.generator).__name__} can "
                "colorize in this memory; use a working size, or allow more memory."
            )
        return results

    def _reduced(self, gray: Tensor, dtype: np.dtype, longest: int) -> list[np.ndarray]:
        """As :meth:`_full_size`, with the chroma of a copy of at most so many pixels a side."""
        size = gray.shape[-2:]
        scale = min(1.0, longest / max(size))
        small = [max(1, round(side * scale)) for side in size]
        reduced = gray
        if scale < 1:
            reduced = F.interpolate(gray, small, mode="bicubic", antialias=True).clamp(0, 255)
        projection = self.projection or Projection(self.translation)  # for lines, also when raw
        results = []
        for small_output in self._full_size(reduced, np.dtype(np.float32), None):
            color = torch.from_numpy(small_output).permute(0, 3, 1, 2) * 255
            results.append(projection(resized(color, size), gray, dtype))
        return results
