"""The kinds of pictures that can be colorized, and the way back to each of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from spynco_mm.datasets.picture import bytes_of
from spynco_mm.models import HandcraftedTranslation
from spynco_mm.utils.files import PathLike

from .pictures import Picture, grey_if_grey, picture_of, read_picture
from .projection import to_gray


@dataclass
class Input:
    """A picture of any kind as its grey, and what makes the same kind of its colouring.

    Attributes:
        gray: H×W float32 in [0, 255], or H×W×C_A where A has several channels.
        dtype: Type of a colouring: uint8, uint16, or float32 in [0, 1].
        back: Makes of a colouring, H×W×C_B of that type, what the caller is given.
    """

    gray: np.ndarray
    dtype: np.dtype
    back: Callable[[np.ndarray], Any]


def picture_input(picture: Picture, translation: HandcraftedTranslation) -> Input:
    """A decoded picture, which comes back as one with all that it carries."""
    return Input(
        to_gray(picture.pixels, translation),
        picture.pixels.dtype,
        lambda output: Picture(output, picture.alpha, picture.metadata, picture.note),
    )


def _image(picture: Picture, translation: HandcraftedTranslation) -> Input:
    """What Pillow opened, which comes back as its image: 8 bits, with alpha and metadata."""

    def back(output: np.ndarray) -> Image.Image | np.ndarray:
        if output.shape[2] != 3:
            return output  # no mode of Pillow's has these channels
        if picture.alpha is not None:
            output = np.concatenate([output, picture.alpha[..., None]], axis=2)
        result = Image.fromarray(bytes_of(output))  # Pillow has no 16-bit RGB
        result.info.update(picture.metadata)
        return result

    return Input(to_gray(picture.pixels, translation), picture.pixels.dtype, back)


def _channels(translation: HandcraftedTranslation) -> list[int]:
    """How many a picture may have: one, those of A and those of B."""
    return sorted({1, translation.out_channels, translation.in_channels})


def _array(image: np.ndarray, translation: HandcraftedTranslation) -> Input:
    if image.dtype not in (np.uint8, np.uint16):
        raise ValueError(
            f"Colorizer takes arrays of uint8 or uint16, got {image.dtype}; convert it, for "
            "example with (255 * image).round().astype('uint8')."
        )
    channels = _channels(translation)
    fits = image.ndim == 2 or (image.ndim == 3 and image.shape[2] in channels)
    if not fits or 0 in image.shape:
        kinds = " or ".join(f"H×W×{c}" for c in channels)
        raise ValueError(
            f"Colorizer takes arrays H×W, {kinds}, got {'×'.join(map(str, image.shape))}."
        )
    pixels = image[..., 0] if image.shape[2:] == (1,) else grey_if_grey(image)
    return Input(to_gray(pixels, translation), image.dtype, lambda output: output)


def _tensor(image: Tensor, translation: HandcraftedTranslation) -> Input:
    planes = image[None] if image.ndim == 2 else image
    channels = _channels(translation)
    if planes.ndim != 3 or planes.shape[0] not in channels or 0 in planes.shape:
        kinds = " or ".join(f"{c}×H×W" for c in channels)
        raise ValueError(
            f"Colorizer takes tensors H×W, {kinds}, got {'×'.join(map(str, image.shape))}."
        )

    def back(output: np.ndarray) -> Tensor:
        result = torch.from_numpy(output).permute(2, 0, 1).contiguous()
        return result.to(image.device, image.dtype)

    planes = planes.detach().cpu()
    if planes.dtype == torch.uint8:
        pixels = planes.permute(1, 2, 0).numpy()
        pixels = pixels[..., 0] if len(planes) == 1 else grey_if_grey(pixels)
        return Input(to_gray(pixels, translation), np.dtype(np.uint8), back)
    if not planes.is_floating_point() or not 0 <= planes.min() <= planes.max() <= 1:
        raise ValueError(
            "Colorizer takes tensors of uint8, or of floating point in [0, 1], got "
            f"{image.dtype} from {planes.min().item()} to {planes.max().item()}."
        )
    planes = planes[None].float()
    if planes.shape[1] == 1:
        planes = planes.expand(-1, translation.out_channels, -1, -1)
    gray = translation.to_domain_a(planes)[0] * 255
    gray = gray[0] if len(gray) == 1 else gray.permute(1, 2, 0)
    return Input(gray.numpy(), np.dtype(np.float32), back)


def as_input(image: Any, translation: HandcraftedTranslation) -> Input:
    """A path, PIL image, array or tensor; the table of ``Colorizer`` says what comes back.

    Args:
        image: One picture.
        translation: H_t, which turns colours grey.

    Raises:
        DataError: A picture file cannot be read, or a picture is too large.
        TypeError: It is no picture.
        ValueError: An array or tensor has no shape or values of a picture.
    """
    if isinstance(image, Tensor):
        return _tensor(image, translation)
    if isinstance(image, np.ndarray):
        return _array(image, translation)
    if isinstance(image, Image.Image):
        return _image(picture_of(image), translation)
    if isinstance(image, PathLike):
        return _image(read_picture(Path(image)), translation)
    raise TypeError(
        f"Colorizer takes paths, PIL images, arrays and tensors, not {type(image).__name__}."
    )


def _is_stack(images: Any) -> bool:
    return isinstance(images, (np.ndarray, Tensor)) and images.ndim == 4


def as_list(images: Any) -> Sequence:
    """The pictures of a list, tuple, array N×H×W×C or tensor N×C×H×W, or the only one.

    Raises:
        ValueError: A stack of no pictures.
    """
    if isinstance(images, (list, tuple)):
        return images
    if _is_stack(images) and not len(images):
        shape = "×".join(map(str, images.shape))
        raise ValueError(f"Colorizer takes stacks of at least one picture, got {shape}.")
    return list(images) if _is_stack(images) else [images]


def like_batch(images: Any, results: list, all_outputs: bool) -> Any:
    """The results of :func:`as_list`, together as their pictures were.

    Args:
        images: What the pictures came in.
        results: A result for each of them, or with ``all_outputs`` a list of results.
        all_outputs: Whether a stack gives a list of stacks, one for each output.
    """
    if isinstance(images, (list, tuple)):
        return results
    if not _is_stack(images):
        return results[0]
    stack = np.stack if isinstance(images, np.ndarray) else torch.stack
    return [stack(output) for output in zip(*results)] if all_outputs else stack(results)
