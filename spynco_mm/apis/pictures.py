"""Picture files in and out, with what they carry beside the pixels."""

import io
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import tifffile
from PIL import Image, PngImagePlugin
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from spynco_mm.datasets.decoding import decode_image, decoding
from spynco_mm.datasets.picture import DataError, Picture, bytes_of, grey_if_grey
from spynco_mm.utils.files import PathLike

from .metadata import (
    DESCRIPTIVE_TAGS,
    DIRECTORIES,
    IPTC,
    XMP,
    for_format,
    metadata_of,
    metadata_of_tiff,
)

__all__ = ["Picture", "encode_picture", "grey_if_grey", "picture_of", "read_picture"]

#: What can hold a colour picture and is written as it was read, as one of four formats; everything
#: else becomes PNG.
OUTPUT_SUFFIXES = {
    ".jfif": ".jpg",
    ".jpe": ".jpg",
    ".jpeg": ".jpg",
    ".jpg": ".jpg",
    ".png": ".png",
    ".tif": ".tif",
    ".tiff": ".tif",
    ".webp": ".webp",
}
#: The longest side that a format can have.
LONGEST = {".jpg": 65_500, ".webp": 16_383}


def picture_of(image: Image.Image) -> Picture:
    """The picture of a Pillow image of any mode but floating point.

    Raises:
        DataError: Its values have no defined brightness.
    """
    try:
        picture = decode_image(image)
    except DataError as error:
        raise DataError(f"the picture: {error}") from error
    picture.metadata, notes = metadata_of(image)
    picture.add_notes(notes)
    return picture


def read_picture(path: PathLike) -> Picture:
    """Read a picture file with all its bits, and its metadata.

    Raises:
        DataError: As :func:`spynco_mm.datasets.read_image`.
    """
    with decoding(path) as (picture, image):
        picture.metadata, notes = metadata_of_tiff(path) if image is None else metadata_of(image)
        picture.add_notes(notes)
    return picture


# -------------------------------------------------------------------------------------- writing


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _latin_or_utf8(text: bytes) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError:
        return text.decode("latin-1")


def _png(pixels: np.ndarray, metadata: dict) -> bytes:
    """OpenCV, which Pillow has no 16-bit colour for, knows nothing of the chunks for the rest."""
    if pixels.dtype == np.uint16:
        data = cv2.imencode(".png", pixels[..., [2, 1, 0, 3][: pixels.shape[2]]])[1].tobytes()
    else:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG", compress_level=4)
        data = buffer.getvalue()
    chunks = b""
    if "icc_profile" in metadata:
        chunks += _chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(metadata["icc_profile"]))
    if "dpi" in metadata:
        per_metre = [min(round(value / 0.0254), 2**31 - 1) for value in metadata["dpi"]]
        chunks += _chunk(b"pHYs", struct.pack(">IIB", *per_metre, 1))
    if "exif" in metadata:
        chunks += _chunk(b"eXIf", metadata["exif"].removeprefix(b"Exif\0\0"))
    text = PngImagePlugin.PngInfo()
    if "xmp" in metadata:
        text.add_itxt("XML:com.adobe.xmp", metadata["xmp"].decode("utf-8", "replace"))
    for key, value in metadata.get("text", {}).items():
        text.add_text(key, value)
    if "comment" in metadata:
        text.add_text("Comment", _latin_or_utf8(metadata["comment"]))
    chunks += b"".join(_chunk(kind, content) for kind, content, *_ in text.chunks)
    head = 8 + 25  # signature and IHDR
    return data[:head] + chunks + data[head:]


def _tiff(pixels: np.ndarray, metadata: dict, translucent: bool) -> bytes:
    """tifffile writes the pixels and the tags; EXIF's and GPS' directories follow them."""
    channels = pixels.shape[2] - translucent
    rgb = channels == 3
    extra = ["unspecified"] * (0 if rgb else channels - 1) + ["unassalpha"] * translucent
    exif = Image.Exif()
    exif.load(metadata.get("exif", b""))
    tags = [(t, 2, 0, str(exif[t]).encode(), True) for t in DESCRIPTIVE_TAGS if t in exif]
    for tag, key in ((XMP, "xmp"), (IPTC, "iptc")):
        if key in metadata:
            tags.append((tag, 7, len(metadata[key]), metadata[key], True))
    directories = [tag for tag in DIRECTORIES[:2] if tag in exif]
    buffer = io.BytesIO()
    tifffile.imwrite(
        buffer,
        pixels,
        byteorder="<",
        photometric="rgb" if rgb else "minisblack",
        extrasamples=extra,
        compression="zlib",
        iccprofile=metadata.get("icc_profile"),
        resolution=metadata.get("dpi"),
        resolutionunit=2 if "dpi" in metadata else None,
        # tifffile refuses their numbers, so that it takes the ones before.
        extratags=[*tags, *[(tag - 1, 4, 1, 0, True) for tag in directories]],
        metadata=None,
        software=False,
    )
    content = bytearray(buffer.getvalue())
    (main,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, main)
    for entry in range(main + 2, main + 2 + 12 * count, 12):
        tag = struct.unpack_from("<H", content, entry)[0] + 1
        if tag in directories:
            content += bytes(len(content) % 2)
            struct.pack_into("<H", content, entry, tag)
            struct.pack_into("<I", content, entry + 8, len(content))
            directory = ImageFileDirectory_v2(b"II*\0\x08\0\0\0", group=tag)
            values = exif.get_ifd(tag)
            for key, value in values.items():
                directory[key] = exif.get_ifd(key) if key in DIRECTORIES else value
            content += directory.tobytes(len(content))
    return bytes(content)


def _jpeg_iptc(data: bytes) -> bytes:
    """The segment that Photoshop made the place of IPTC."""
    resource = b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0" + struct.pack(">I", len(data)) + data
    resource += bytes(len(data) % 2)
    return b"\xff\xed" + struct.pack(">H", len(resource) + 2) + resource


def _pillow(pixels: np.ndarray, metadata: dict, format: str) -> bytes:
    options = dict(format=format, quality=95)
    if format == "JPEG":
        options["subsampling"] = 0
        if "iptc" in metadata:
            options["extra"] = _jpeg_iptc(metadata["iptc"])
    options.update({k: v for k, v in metadata.items() if k != "iptc"})
    buffer = io.BytesIO()
    try:
        Image.fromarray(pixels).save(buffer, **options)
    except (OSError, ValueError) as error:
        raise DataError(f"it cannot be written as {format} ({error}).") from error
    return buffer.getvalue()


def fit_to_format(picture: Picture, suffix: str) -> Picture:
    """The picture as a format holds it, whose note says what had to be left out.

    PNG and TIFF keep 16 bits and transparency, WebP transparency.

    Args:
        picture: Any picture.
        suffix: One of :data:`OUTPUT_SUFFIXES`, in any case.

    Raises:
        DataError: The format cannot hold it: transparency in JPEG, or too many pixels.
    """
    kind = OUTPUT_SUFFIXES[suffix.lower()]
    pixels, alpha = picture.pixels, picture.alpha
    if kind != ".tif" and pixels.shape[2:] not in ((), (3,)):
        raise DataError(f"{pixels.shape[2]} channels can be written as TIFF alone; write that.")
    if kind == ".jpg" and alpha is not None:
        raise DataError("JPEG cannot hold its transparency; write PNG, TIFF or WebP.")
    longest = LONGEST.get(kind, max(pixels.shape[:2]))
    if max(pixels.shape[:2]) > longest:
        raise DataError(
            f"{pixels.shape[1]}×{pixels.shape[0]} pixels cannot be written as {kind[1:].upper()}, "
            f"which has up to {longest} a side; write PNG or TIFF."
        )
    if kind in (".jpg", ".webp"):
        pixels, alpha = bytes_of(pixels), None if alpha is None else bytes_of(alpha)
    metadata, notes = for_format(picture.metadata, kind)
    if pixels.dtype != picture.pixels.dtype:
        notes.append(f"with 8 of its 16 bits, for which {kind[1:].upper()} has no place")
    picture = replace(picture, pixels=pixels, alpha=alpha, metadata=metadata)
    picture.add_notes(notes)
    return picture


def encode_picture(picture: Picture, suffix: str) -> bytes:
    """A picture file's content, without what :func:`fit_to_format` leaves out.

    JPEG and WebP are written with quality 95, JPEG without reducing the chroma.

    Args:
        picture: Its pixels are H×W×3 or H×W.
        suffix: One of :data:`OUTPUT_SUFFIXES`, in any case.

    Raises:
        DataError: As :func:`fit_to_format`.
    """
    picture = fit_to_format(picture, suffix)
    pixels = picture.pixels
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    if picture.alpha is not None:
        pixels = np.concatenate([pixels, picture.alpha[..., None]], axis=2)
    kind = OUTPUT_SUFFIXES[suffix.lower()]
    if kind in (".png", ".tif"):
        if kind == ".tif":
            return _tiff(pixels, picture.metadata, picture.alpha is not None)
        return _png(pixels, picture.metadata)
    return _pillow(pixels, picture.metadata, "JPEG" if kind == ".jpg" else "WEBP")


def output_suffix(path: Path) -> str:
    """The suffix of the coloured picture of a file."""
    return path.suffix if path.suffix.lower() in OUTPUT_SUFFIXES else ".png"
