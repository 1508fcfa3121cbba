"""Decode any picture file with all its bits, or say in one sentence why not.

TIFF is read by tifffile, which leaves the meaning of the samples to us, 16-bit PNG by libpng
(imagecodecs), everything else by Pillow: each of the three is right where another is not.
"""

import functools
import importlib.util
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
from PIL import Image

PathLike = str | os.PathLike

#: Decoders of Pillow's that are used, of which JPEG includes MPO. It has more, and some start other
#: programs.
FORMATS = (
    "AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "PCX", "PNG", "PPM", "QOI", "SGI", "SUN",
    "TIFF", "WEBP",
)  # fmt: skip
#: TGA has no signature: only a file of this name is taken for one.
TGA_SUFFIXES = (".icb", ".tga", ".vda", ".vst")
#: What the extra pillow-heif reads.
HEIF_SUFFIXES = (".heic", ".heif", ".hif")
# Pillow loads most of them when first asked, which threads must not do at the same time.
Image.init()
# What tifffile thinks of a damaged file is said by the error, if there is one.
tifffile.logger().addHandler(logging.NullHandler())

TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
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


def _upright(array: np.ndarray, orientation: int) -> np.ndarray:
    """Undo an EXIF orientation, 1 to 8."""
    if orientation in (5, 6, 7, 8):
        array = array.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return np.ascontiguousarray(array)


def _picture(samples: np.ndarray, orientation: int, notes: "list[str]") -> Picture:
    """The picture of H×W or H×W×C samples of the full range; 2 or 4 channels have alpha."""
    alpha = None
    if samples.ndim == 3 and samples.shape[2] in (2, 4):
        samples, alpha = samples[..., :-1], samples[..., -1]
        if (alpha == np.iinfo(alpha.dtype).max).all():
            alpha = None
    if samples.ndim == 3 and samples.shape[2] == 1:
        samples = samples[..., 0]
    picture = Picture(
        _upright(grey_if_grey(samples), orientation),
        None if alpha is None else _upright(alpha, orientation),
    )
    picture.add_notes(notes)
    return picture


def _full_range(values: np.ndarray, most: int) -> np.ndarray:
    """Integers from 0 to ``most`` as uint8 up to 255, or else uint16, that use the whole range."""
    dtype = np.dtype(np.uint8 if most <= 255 else np.uint16)
    full = np.iinfo(dtype).max
    if most == full:
        return values.astype(dtype, copy=False)
    table = np.round(np.arange(most + 1) * (full / most)).astype(dtype)
    return table.take(values, mode="clip")


def _integers(values: np.ndarray) -> np.ndarray:
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

# ----------------------------------------------------------------------------------------- TIFF


def _without_premultiplication(color: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """H×W×C colours from those that were multiplied by their H×W alpha; transparent ones stay."""
    full = np.iinfo(color.dtype).max
    result = np.empty_like(color)
    for top in range(0, len(color), BAND):
        rows = slice(top, top + BAND)
        part, by = color[rows].astype(np.uint32), alpha[rows, :, None].astype(np.uint32)
        divided = (part * full + by // 2) // np.maximum(by, 1)
        result[rows] = np.where(by, np.minimum(divided, full), part)
    return result


def _rgb_of_cmyk(ink: np.ndarray) -> np.ndarray:
    """H×W×3 from H×W×4, without a colour profile: each ink takes its share of what black leaves."""
    full = np.iinfo(ink.dtype).max
    result = np.empty((*ink.shape[:2], 3), ink.dtype)
    for top in range(0, len(ink), BAND):
        light = full - ink[top : top + BAND].astype(np.uint32)
        result[top : top + BAND] = (light[..., :3] * light[..., 3:] + full // 2) // full
    return result


def _in_words(page: tifffile.TiffPage) -> bool:
    """Whether samples of 9 to 15 bits are stored in 16 bits each, against the specification."""
    if page.compression in tifffile.TIFF.IMAGE_COMPRESSIONS:
        return False
    file = page.parent.filehandle
    file.seek(page.dataoffsets[0])
    data = file.read(page.databytecounts[0])
    if page.compression != 1:
        data = tifffile.TIFF.DECOMPRESSORS[page.compression](data)
    rows, width = page.tilelength, page.tilewidth
    if not page.is_tiled:
        rows, width = min(page.rowsperstrip, page.imagelength), page.imagewidth
    samples = 1 if page.planarconfig == 2 else page.samplesperpixel
    return len(data) >= 2 * rows * width * samples


def _tiff_samples(page: tifffile.TiffPage) -> "tuple[np.ndarray, int]":
    """H×W×C integers as they are stored, and the value that stands for full brightness."""
    bits, kind = page.bitspersample, page.sampleformat
    if kind == 3:
        raise DataError(FLOATING_POINT)
    if kind in (5, 6) or not isinstance(bits, int) or bits > 32:
        raise DataError(f"its samples of {bits} bits are not read; save it with 8 or 16 bits.")
    size = page.parent.filehandle.size
    cut = [o for o, n in zip(page.dataoffsets, page.databytecounts) if n == 0 or o + n > size]
    if cut and (page.compression != 1 or min(page.databytecounts) == 0):
        raise DataError(
            f"{len(cut)} of its {len(page.dataoffsets)} strips or tiles are not all there; copy it "
            "again."
        )
    if 8 < bits < 16 and _in_words(page):
        page.bitspersample = 16
    values = page.asarray(squeeze=False, maxworkers=1)  # planes, depth, H, W, samples
    values = np.moveaxis(values[:, 0, ..., 0], 0, 2) if page.planarconfig == 2 else values[0, 0]
    if kind == 2 or bits > 16:
        return _integers(values), 0xFFFF
    # Not of use by the specification, but where all values keep below 1023, 4095 or 16383 and the
    # file says that those are the highest, it is a camera's or scanner's 10, 12 or 14 bits.
    most = np.max(page.tags.valueof(281, default=0))
    if bits == 16 and most in (0x3FF, 0xFFF, 0x3FFF) and values.max() <= most:
        return values, int(most)
    return values.view(np.uint8) if values.dtype == bool else values, 2**bits - 1


def _decode_tiff(page: tifffile.TiffPage) -> Picture:
    """The picture of a page whose colours tifffile reads as they are stored."""
    kinds = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3}
    if 262 not in page.tags or page.photometric not in kinds:
        name = getattr(page.photometric, "name", page.photometric) if 262 in page.tags else "unsaid"
        raise DataError(f"its kind of colours ({name}) is not read; save it as RGB.")
    values, most = _tiff_samples(page)
    if values.shape[2] < kinds[page.photometric]:
        raise DataError(f"its {values.shape[2]} samples a pixel are too few; save it as RGB.")
    color, extra = np.split(values, [kinds[page.photometric]], axis=2)
    # A channel of unspecified meaning is no transparency. Where the tag is missing it is.
    unsaid = 2 if 338 not in page.tags and extra.shape[2] == 1 and extra.any() else 0
    meanings = (*page.extrasamples, *[unsaid] * extra.shape[2])[: extra.shape[2]]
    alphas = [i for i, meaning in enumerate(meanings) if meaning in (1, 2)][:1]
    left_out = extra.shape[2] - len(alphas)
    plural = "s" if left_out > 1 else ""
    notes = [f"without its {left_out} channel{plural} beside the colours"] if left_out else []
    if page.photometric == 3:
        colors = np.moveaxis(page.colormap, 0, 1)
        # Some writers fill the low byte only.
        colors = (colors >> 8 if colors.max() > 255 else colors).astype(np.uint8)
        color, full_alpha = colors[color[..., 0]], np.uint8
    else:
        color, full_alpha = _full_range(color, most), None
    alpha = _full_range(extra[..., alphas[0]], most) if alphas else None
    if alphas and full_alpha and alpha.dtype != full_alpha:
        alpha = (alpha >> 8).astype(full_alpha)
    if alphas and meanings[alphas[0]] == 1:
        color = _without_premultiplication(color, alpha)
    if page.photometric == 0:
        color = ~color
    if page.photometric == 5:
        color = _rgb_of_cmyk(color)
    if page.photometric == 6 and page.compression != 7:  # which gives RGB
        if color.dtype != np.uint8:
            raise DataError("its kind of colours (16-bit YCbCr) is not read; save it as RGB.")
        shown = Image.frombytes("YCbCr", color.shape[1::-1], np.ascontiguousarray(color))
        color = np.asarray(shown.convert("RGB"))
    if alphas:
        color = np.concatenate([color, alpha[..., None]], axis=2)
    return _picture(color, page.tags.valueof(274, default=1), notes)


def _check_size(width: int, height: int, samples: int = 4) -> None:
    if width * height * max(samples, 4) > 4 * MAX_PIXELS:
        per_pixel = f" of {samples} samples" if samples > 4 else ""
        raise DataError(
            f"{width}×{height} pixels{per_pixel} are more than the {MAX_PIXELS} that are read; "
            "make the picture smaller."
        )


def _read_tiff(path: PathLike) -> Picture:
    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        _check_size(page.imagewidth, page.imagelength, page.samplesperpixel)
        pages = [f"the first of {len(file.pages)} pages"] if len(file.pages) > 1 else []
        # Fax, JPEG as it was in TIFF's version 5, colours of which several pixels share some, and
        # L*a*b* need libtiff or Pillow. All have 8 bits or one.
        if (
            page.compression not in (2, 3, 4, 6)
            and (not page.is_subsampled or page.compression == 7)
            and (page.photometric != 8 or page.bitspersample != 8)
        ):
            picture = _decode_tiff(page)
        elif page.compression == 1 and page.is_subsampled:
            raise DataError(
                "its kind of colours (YCbCr, shared by pixels, not compressed) is not read; save "
                "it as RGB."
            )
        else:
            # Opened, since Pillow would map a path's file with the size that is upright.
            with open(path, "rb") as opened, Image.open(opened, formats=["TIFF"]) as image:
                image.load()  # and turns it
                picture = _picture(_pillow_samples(image), 1, [])
        picture.add_notes(pages)
        return picture


# -------------------------------------------------------------------------------- all the others


@functools.cache
def _register_heif() -> None:
    """Let Pillow read HEIF. Here, because it costs time and hardly anybody needs it."""
    import pillow_heif

    pillow_heif.register_heif_opener()


def has_heif() -> bool:
    """Whether HEIF can be read."""
    return importlib.util.find_spec("pillow_heif") is not None


def _formats(path: PathLike, head: bytes) -> "tuple[str, ...]":
    suffix = Path(path).suffix.lower()
    if suffix in TGA_SUFFIXES:
        return (*FORMATS, "TGA")
    if head[4:8] == b"ftyp" and (head[8:11] in (b"hei", b"hev") or suffix in HEIF_SUFFIXES):
        if not has_heif():
            raise DataError(
                "HEIF is read with the extra pillow-heif; pip install -e '.[heif]', or save it as "
                "JPEG."
            )
        _register_heif()
        return (*FORMATS, "HEIF")
    return FORMATS


def _pillow_samples(image: Image.Image) -> np.ndarray:
    """H×W×C or H×W samples of a decoded Pillow image, 8 or 16 bits."""
    if image.mode == "F":
        raise DataError(FLOATING_POINT)
    if image.mode.startswith("I"):
        return _integers(np.asarray(image))
    if image.has_transparency_data:
        samples = np.asarray(image if image.mode == "LA" else image.convert("RGBA"))
        # Many TGA files have a fourth channel of no meaning.
        return samples if image.format != "TGA" or samples[..., -1].any() else samples[..., :-1]
    if image.mode in ("1", "L"):
        return np.asarray(image.convert("L"))
    return np.asarray(image.convert("RGB"))


def _file_samples(image: Image.Image, path: PathLike) -> np.ndarray:
    """As :func:`_pillow_samples`, from the file itself where Pillow drops or confuses something."""
    if image.format == "PNG":
        with open(path, "rb") as file:
            bits, color_type = file.read(26)[24:]  # in IHDR
            # Pillow reads 8 of 16 bits, and takes a transparent grey's number of 2 or 4 bits for
            # one of 8.
            if bits == 16 or (color_type == 0 and bits < 8 and "transparency" in image.info):
                file.seek(0)
                return imagecodecs.png_decode(file.read())
    if image.format == "PPM" and image.mode == "RGB":
        codec, _, offset, args = image.tile[0]
        if codec == "ppm" and args[1] > 255:
            values = np.fromfile(path, ">u2", 3 * image.width * image.height, offset=offset)
            return _full_range(values.reshape(image.height, image.width, 3), args[1])
    image.load()
    return _pillow_samples(image)


def orientation_of(image: Image.Image) -> int:
    """A Pillow image's EXIF orientation, 1 to 8; 1 if it has none that can be read."""
    try:
        orientation = image.getexif().get(ORIENTATION, 1)
    except Exception:  # A damaged EXIF block is no reason to refuse the pixels.
        return 1
    return orientation if orientation in range(1, 9) else 1


def decode_image(image: Image.Image, path: PathLike | None = None) -> Picture:
    """The picture of a Pillow image, without its metadata.

    Args:
        image: Of any mode but floating point.
        path: Its file, if it has one: where Pillow drops bits, they are read from there.

    Raises:
        DataError: Its values have no defined brightness.
    """
    samples = _pillow_samples(image) if path is None else _file_samples(image, path)
    # A telephone's JPEG may carry other views, and is one picture all the same.
    frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
    notes = [f"the first of {frames} pages"] if frames > 1 else []
    return _picture(samples, orientation_of(image), notes)


def _head(path: PathLike) -> bytes:
    with open(path, "rb") as file:
        head = file.read(12)
    if not head:
        raise DataError("the file is empty; copy it again or remove it.")
    return head


@contextmanager
def decoding(path: PathLike) -> "Iterator[tuple[Picture, Image.Image | None]]":
    """A picture file, decoded, and opened for its metadata: a Pillow image, or None for TIFF.

    Raises:
        DataError: It cannot be, or what is done with it fails; see
            :func:`spynco_mm.datasets.read_image`.
    """
    try:
        head = _head(path)
        if head[:4] in TIFF_SIGNATURES:
            yield _read_tiff(path), None
            return
        with Image.open(path, formats=_formats(path, head)) as image:
            _check_size(*image.size)
            yield decode_image(image, path), image
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except Image.UnidentifiedImageError as error:
        raise DataError(f"{path}: this is not a picture Pillow can read; remove it.") from error
    except Image.DecompressionBombError as error:
        raise DataError(f"{path}: {error}; make the picture smaller.") from error
    except FileNotFoundError as error:
        raise DataError(f"{path}: there is no such file; check the path.") from error
    except (IsADirectoryError, PermissionError) as error:
        raise DataError(f"{path}: it cannot be opened ({error.strerror}).") from error
    except Exception as error:  # Decoders raise whatever their input makes them raise.
        raise DataError(
            f"{path}: the picture cannot be decoded ({error}); copy it again or remove it."
        ) from error


def picture_size(path: PathLike) -> "tuple[int, int] | None":
    """Height and width by a file's header, not turned; None if it has none that can be read."""
    try:
        head = _head(path)
        if head[:4] in TIFF_SIGNATURES:
            with tifffile.TiffFile(path) as file:
                return file.pages.first.imagelength, file.pages.first.imagewidth
        with Image.open(path, formats=_formats(path, head)) as image:
            return image.size[::-1]
    except Exception:  # Why it cannot be read is found out, and reported, when it is.
        return None
