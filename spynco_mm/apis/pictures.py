"""Picture files in and out, with what they carry beside the pixels."""

import io
import os
import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import tifffile
from PIL import Image

from spynco_mm.datasets.images import DataError, decoding

PathLike = str | os.PathLike

#: What can hold a colour picture and is written as it was read; everything else becomes PNG.
OUTPUT_SUFFIXES = (".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")

ORIENTATION = 0x0112
#: Tags of a TIFF file that describe the picture; the others describe how it is stored.
DESCRIPTIVE_TAGS = (270, 271, 272, 305, 306, 315, 33432, 34665, 34853)


@dataclass
class Picture:
    """A decoded picture.

    Attributes:
        pixels: H×W, grey, or H×W×3, RGB with at least one pixel that is not grey; uint8, or uint16
            over its full range. Upright: an EXIF orientation has been applied.
        alpha: H×W of the same type, or None.
        metadata: ``exif``, ``icc_profile`` and ``dpi``, those there are, as Pillow's ``save`` takes
            them.
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


def _decode_16_bit(path: PathLike, image: Image.Image) -> np.ndarray:
    """H×W×C uint16 in RGB order, of which Pillow keeps the high bytes only."""
    data = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if data is None or data.dtype != np.uint16 or data.shape[:2] != image.size[::-1]:
        raise DataError(f"{path}: its 16-bit channels cannot be decoded; save it as 16-bit PNG.")
    if data.ndim == 3:
        data = data[..., [2, 1, 0, 3][: data.shape[2]]]
    return data


def _has_16_bits(path: PathLike, image: Image.Image) -> bool:
    """Whether a file of a mode that Pillow reads with 8 bits has 16."""
    if image.format == "PNG":
        with open(path, "rb") as file:
            return file.read(25)[24] == 16  # IHDR's bit depth
    return image.format == "TIFF" and 16 in image.tag_v2.get(258, ())


def _integers(image: Image.Image, path: object) -> np.ndarray:
    """16 bits from Pillow's integer modes."""
    values = np.asarray(image)
    if values.min() < 0 or values.max() > 0xFFFF:
        raise DataError(
            f"{path}: its 32-bit values run from {values.min()} to {values.max()}, which have no "
            "agreed brightness; save it with 8 or 16 bits."
        )
    return values.astype(np.uint16)


def _metadata(image: Image.Image) -> dict:
    """What is kept: EXIF without the orientation, a profile for RGB, the resolution."""
    metadata = {}
    exif = image.getexif()
    exif.pop(ORIENTATION, None)
    if image.format == "TIFF":
        for tag in set(exif) - set(DESCRIPTIVE_TAGS):
            del exif[tag]
    if len(exif):
        metadata["exif"] = exif.tobytes()
    profile = image.info.get("icc_profile")
    # A profile for grey or CMYK says nothing about the colours that are written.
    if profile and profile[16:20] == b"RGB ":
        metadata["icc_profile"] = profile
    if "dpi" in image.info:
        metadata["dpi"] = tuple(float(value) for value in image.info["dpi"])
    return metadata


def picture_of(image: Image.Image, path: PathLike | None = None) -> Picture:
    """The picture of a Pillow image, decoded.

    Args:
        image: Of any mode but floating point.
        path: Its file, if it has one: where Pillow drops bits, they are read from there.

    Raises:
        DataError: Its values have no defined brightness.
    """
    name = path or "the picture"
    orientation = image.getexif().get(ORIENTATION, 1)
    alpha = None
    if image.mode == "F":
        raise DataError(
            f"{name}: its floating-point values have no agreed brightness; save it with 8 or 16 "
            "bits."
        )
    if image.mode.startswith("I"):
        pixels = _integers(image, name)
    elif path is not None and _has_16_bits(path, image):
        pixels = _decode_16_bit(path, image)
    elif image.has_transparency_data:
        pixels = np.asarray(image if image.mode == "LA" else image.convert("RGBA"))
    elif image.mode in ("1", "L"):
        pixels = np.asarray(image.convert("L"))
    else:
        pixels = np.asarray(image.convert("RGB"))
    if pixels.ndim == 3 and pixels.shape[2] in (2, 4):
        pixels, alpha = pixels[..., :-1], pixels[..., -1]
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    note = ""
    # A telephone's JPEG may carry other views, and is one picture all the same.
    if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
        note = f"the first of {image.n_frames} pages"
    return Picture(
        _upright(grey_if_grey(pixels), orientation),
        None if alpha is None else _upright(alpha, orientation),
        _metadata(image),
        note,
    )


def read_picture(path: PathLike) -> Picture:
    """Read a picture file with all its bits.

    Raises:
        DataError: As :func:`spynco_mm.datasets.read_image`.
    """
    with decoding(path) as image:
        return picture_of(image, path)


# -------------------------------------------------------------------------------------- writing


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png_16_bit(pixels: np.ndarray, metadata: dict) -> bytes:
    """OpenCV writes the pixels; it has no way to the chunks that carry the rest."""
    order = [2, 1, 0, 3][: pixels.shape[2]]
    data = cv2.imencode(".png", pixels[..., order])[1].tobytes()
    head = 8 + 25  # signature and IHDR
    chunks = b""
    if "icc_profile" in metadata:
        chunks += _chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(metadata["icc_profile"]))
    if "dpi" in metadata:
        per_metre = [round(value / 0.0254) for value in metadata["dpi"]]
        chunks += _chunk(b"pHYs", struct.pack(">IIB", *per_metre, 1))
    if "exif" in metadata:
        chunks += _chunk(b"eXIf", metadata["exif"].removeprefix(b"Exif\0\0"))
    return data[:head] + chunks + data[head:]


def _tiff_16_bit(pixels: np.ndarray, metadata: dict) -> bytes:
    """tifffile writes 16-bit RGB; of EXIF it takes the text fields."""
    exif = Image.Exif()
    exif.load(metadata.get("exif", b""))
    text = [(tag, 2, 0, str(exif[tag]), True) for tag in DESCRIPTIVE_TAGS[:-2] if tag in exif]
    buffer = io.BytesIO()
    tifffile.imwrite(
        buffer,
        pixels,
        photometric="rgb",
        extrasamples=["unassalpha"] if pixels.shape[2] == 4 else None,
        compression="zlib",
        iccprofile=metadata.get("icc_profile"),
        resolution=metadata.get("dpi"),
        resolutionunit=2 if "dpi" in metadata else None,
        extratags=text,
        metadata=None,
        software=False,
    )
    return buffer.getvalue()


def encode_picture(picture: Picture, suffix: str) -> bytes:
    """A picture file's content.

    PNG and TIFF keep 16 bits, JPEG and WebP are written with 8 bits at quality 95, JPEG without
    reducing the chroma.

    Args:
        picture: Its pixels are H×W×3 or H×W.
        suffix: One of :data:`OUTPUT_SUFFIXES`, in any case.

    Raises:
        DataError: The format cannot hold it: transparency in JPEG, or too many pixels.
    """
    suffix = suffix.lower()
    pixels, alpha = picture.pixels, picture.alpha
    if suffix in (".jpg", ".jpeg") and alpha is not None:
        raise DataError("JPEG cannot hold its transparency; write PNG, TIFF or WebP.")
    if pixels.dtype == np.uint16 and suffix in (".jpg", ".jpeg", ".webp"):
        pixels = (pixels >> 8).astype(np.uint8)
        alpha = None if alpha is None else (alpha >> 8).astype(np.uint8)
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    if alpha is not None:
        pixels = np.concatenate([pixels, alpha[..., None]], axis=2)
    if pixels.dtype == np.uint16:
        write = _png_16_bit if suffix == ".png" else _tiff_16_bit
        return write(pixels, picture.metadata)
    options = {
        ".jpg": dict(format="JPEG", quality=95, subsampling=0),
        ".png": dict(format="PNG", compress_level=4),
        ".tif": dict(format="TIFF", compression="tiff_adobe_deflate"),
        ".webp": dict(format="WEBP", quality=95),
    }[{".jpeg": ".jpg", ".tiff": ".tif"}.get(suffix, suffix)]
    buffer = io.BytesIO()
    try:
        Image.fromarray(pixels).save(buffer, **options, **picture.metadata)
    except (OSError, ValueError) as error:
        raise DataError(f"it cannot be written as {options['format']} ({error}).") from error
    return buffer.getvalue()


def output_suffix(path: Path) -> str:
    """The suffix of the coloured picture of a file."""
    return path.suffix if path.suffix.lower() in OUTPUT_SUFFIXES else ".png"
