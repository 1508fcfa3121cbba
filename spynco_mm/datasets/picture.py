"""What decoders have in common: a picture, and how the samples of a file become one."""

from dataclasses import dataclass, field

import numpy as np
from PIL import Image

ORIENTATION = 0x0112
#: Larger pictures are refused: a file of a few kilobytes can ask for gigabytes of memory.
MAX_PIXELS = 89_478_485
#: Rows that are worked on at once where a whole picture of larger numbers would not fit.
BAND = 256


class DataError(ValueError):
    """Data that cannot be used. The message is one sentence for the user: what, why, what to do."""


@dataclass
class Picture:
    """A decoded picture.

    Attributes:
        pixels: H×W, grey, or H×W×3, RGB with at least one pixel that is not grey; uint8, or uint16
            over its full range. Upright: an EXIF orientation has been applied.
        alpha: H×W of the same type, not premultiplied; None where all is opaque.
        metadata: What the file says beside the pixels, see :mod:`spynco_mm.apis.metadata`.
        note: What of the file is not in here, in words; empty if nothing is missing.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    metadata: dict = field(default_factory=dict)
    note: str = ""

    @property
    def is_color(self) -> bool:
        """Whether any pixel is not grey."""
        return self.pixels.ndim == 3

    def add_notes(self, notes: "list[str]") -> None:
        """Append to the note what is not in it yet."""
        self.note = "; ".join(dict.fromkeys([*filter(None, self.note.split("; ")), *notes]))


def grey_if_grey(pixels: np.ndarray) -> np.ndarray:
    """H×W for H×W×3 pixels that are all grey, else as they are."""
    if pixels.ndim == 3 and pixels.shape[2] == 3:
        red, green, blue = np.moveaxis(pixels, 2, 0)
        if (red == green).all() and (green == blue).all():
            return np.ascontiguousarray(red)
    return pixels


def bytes_of(values: np.ndarray) -> np.ndarray:
    """8 of 16 bits, the high ones: exact for both usual ways to widen a byte, v·256 and v·257."""
    return (values >> 8).astype(np.uint8) if values.dtype == np.uint16 else values


def upright(array: np.ndarray, orientation: int) -> np.ndarray:
    """Undo an EXIF orientation, 1 to 8."""
    if orientation in (5, 6, 7, 8):
        array = array.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return np.ascontiguousarray(array)


def assembled(samples: np.ndarray, orientation: int, notes: "list[str]") -> Picture:
    """The picture of H×W or H×W×C samples of the full range; 2 or 4 channels have alpha."""
    alpha = None
    if samples.ndim == 3 and samples.shape[2] in (2, 4):
        samples, alpha = samples[..., :-1], samples[..., -1]
        if (alpha == np.iinfo(alpha.dtype).max).all():
            alpha = None
    if samples.ndim == 3 and samples.shape[2] == 1:
        samples = samples[..., 0]
    picture = Picture(
        upright(grey_if_grey(samples), orientation),
        None if alpha is None else upright(alpha, orientation),
    )
    picture.add_notes(notes)
    return picture


def full_range(values: np.ndarray, most: int) -> np.ndarray:
    """Integers from 0 to ``most`` as uint8 up to 255, or else uint16, that use the whole range."""
    dtype = np.dtype(np.uint8 if most <= 255 else np.uint16)
    full = np.iinfo(dtype).max
    if most == full:
        return values.astype(dtype, copy=False)
    table = np.round(np.arange(most + 1) * (full / most)).astype(dtype)
    return table.take(values, mode="clip")


def integers(values: np.ndarray) -> np.ndarray:
    """16 bits from signed or 32-bit integers, as Pillow stores 16 bits in its mode I.

    Raises:
        DataError: They are no 16-bit numbers.
    """
    least, most = int(values.min()), int(values.max())
    narrow = values.dtype.kind == "i" and values.itemsize < 4
    if narrow or least < 0 or most > 0xFFFF:
        kind = "signed" if narrow or least < 0 else f"{8 * values.itemsize}-bit"
        raise DataError(
            f"its {kind} values run from {least} to {most}, which have no agreed brightness; save "
            "it with 8 or 16 bits."
        )
    return values.astype(np.uint16)


FLOATING_POINT = "its floating-point values have no agreed brightness; save it with 8 or 16 bits."


def without_premultiplication(color: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """H×W×C colours from those that were multiplied by their H×W alpha; transparent ones stay."""
    full = np.iinfo(color.dtype).max
    result = np.empty_like(color)
    for top in range(0, len(color), BAND):
        rows = slice(top, top + BAND)
        part, by = color[rows].astype(np.uint32), alpha[rows, :, None].astype(np.uint32)
        divided = (part * full + by // 2) // np.maximum(by, 1)
        result[rows] = np.where(by, np.minimum(divided, full), part)
    return result


def check_size(width: int, height: int, samples: int = 4) -> None:
    if width * height * max(samples, 4) > 4 * MAX_PIXELS:
        per_pixel = f" of {samples} samples" if samples > 4 else ""
        raise DataError(
            f"{width}×{height} pixels{per_pixel} are more than the {MAX_PIXELS} that are read; "
            "make the picture smaller."
        )


def pillow_samples(image: Image.Image) -> np.ndarray:
    """H×W×C or H×W samples of a decoded Pillow image, 8 or 16 bits."""
    if image.mode == "F":
        raise DataError(FLOATING_POINT)
    if image.mode.startswith("I"):
        return integers(np.asarray(image))
    if image.has_transparency_data:
        samples = np.asarray(image.convert("LA" if image.mode in ("LA", "La") else "RGBA"))
        # Many TGA files have a fourth channel of no meaning.
        return samples if image.format != "TGA" or samples[..., -1].any() else samples[..., :-1]
    if image.mode in ("1", "L"):
        return np.asarray(image.convert("L"))
    return np.asarray(image.convert("RGB"))
