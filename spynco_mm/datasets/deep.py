"""Samples of files of which Pillow would drop bits, or take one thing for another."""

import io
import re
import struct

import imagecodecs
import numpy as np
from PIL import Image

from spynco_mm.utils.files import PathLike

from .picture import DataError, full_range, pillow_samples, without_premultiplication

#: A file, or its content.
Source = PathLike | io.BytesIO
Samples = np.ndarray | None


def _content(source: Source, first: int = -1) -> bytes:
    if isinstance(source, io.BytesIO):
        return source.getvalue()[: first if first > 0 else None]
    with open(source, "rb") as file:
        return file.read(first)


def _png(image: Image.Image, source: Source) -> "tuple[Samples, int]":
    bits, color_type = _content(source, 26)[24:]  # in IHDR
    # Pillow reads 8 of 16 bits, and takes a transparent grey's number of 2 or 4 bits for one of 8.
    if bits == 16 or (color_type == 0 and bits < 8 and "transparency" in image.info):
        image.load()  # to know what is behind the pixels, too
        return imagecodecs.png_decode(_content(source)), bits
    return None, bits


def _ppm(image: Image.Image, source: Source) -> "tuple[Samples, int]":
    codec, _, offset, args = image.tile[0]
    if image.mode != "RGB" or codec == "raw" or args[1] <= 255:
        return None, 8
    content, count = _content(source), 3 * image.width * image.height
    if codec == "ppm":
        values = np.frombuffer(content, ">u2", count, offset)
    else:
        numbers = re.sub(rb"#[^\r\n]*", b"", content[offset:]).split()
        values = np.array(numbers[:count], np.uint16)
    return full_range(values.reshape(image.height, image.width, 3), args[1]), 16


def _jpeg2000(image: Image.Image, source: Source) -> "tuple[Samples, int]":
    content = _content(source)
    start = content.index(b"\xff\x4f\xff\x51")
    (count,) = struct.unpack_from(">H", content, start + 40)
    components = {content[start + 42 + 3 * i :][:3] for i in range(count)}
    bits = max(depth & 0x7F for depth, *_ in components) + 1
    header = content[:start]
    kind = re.search(rb"colr\x01..(....)", header, re.DOTALL)
    other = kind and int.from_bytes(kind[1], "big") not in (16, 17)  # than RGB and grey
    if bits == 8 or (bits < 8 and (other or len(components) > 1)) or b"pclr" in header:
        return None, 8
    if other or bits > 16 or {c[0] & 0x7F for c in components} != {bits - 1} or len(components) > 1:
        if image.mode == "I;16":
            return None, 16
        # Pillow reduces them to 8, and makes black of white.
        raise DataError(
            f"its kind of colours ({bits} bits, not all alike or no RGB) is not read; save it as "
            "PNG."
        )
    values = imagecodecs.jpeg2k_decode(content)
    if values.dtype.kind == "i":
        values = values.astype(np.int32) + 2 ** (bits - 1)
    return full_range(values, 2**bits - 1), bits


def _avif(image: Image.Image, source: Source) -> "tuple[Samples, int]":
    content = _content(source)
    # Each picture inside has an av1C, whose third byte says that it has 10 or 12 bits.
    flags = [found[1][0] for found in re.finditer(rb"av1C..(.)", content, re.DOTALL)]
    depths = sorted({8 + 2 * (flag >> 6 & 1) + 2 * (flag >> 5 & 1) for flag in flags} - {8})
    if not depths:
        return None, 8
    if image.n_frames > 1:  # which imagecodecs crashes on
        return None, depths[-1]
    try:
        values = imagecodecs.avif_decode(content, index=0)
    except imagecodecs.AvifError:  # is stricter than Pillow
        return None, depths[-1]
    if values.dtype == np.uint8:
        return None, 8
    bits = next(bits for bits in depths if values.max() < 2**bits)
    return full_range(values, 2**bits - 1), bits


def _heif(image: Image.Image, source: Source) -> "tuple[Samples, int]":
    bits = image.info["bit_depth"]
    if bits == 8:
        return None, 8
    import pillow_heif

    file = pillow_heif.open_heif(source, convert_hdr_to_8bit=False, hdr_to_16bit=False)
    frame = file[file.primary_index]
    values = full_range(np.asarray(frame), 2**bits - 1)
    if frame.premultiplied_alpha:
        values = np.dstack(
            [without_premultiplication(values[..., :-1], values[..., -1]), values[..., -1]]
        )
    return values, bits


def _sgi(image: Image.Image, source: Source) -> "tuple[Samples, int]":
    return None, 8 * _content(source, 4)[3]


#: Each gives H×W or H×W×C samples and None where Pillow's are right or the only ones, and the bits
#: that there are.
READERS = {
    "PNG": _png,
    "PPM": _ppm,
    "JPEG2000": _jpeg2000,
    "AVIF": _avif,
    "HEIF": _heif,
    "SGI": _sgi,
}


def file_samples(image: Image.Image, source: Source) -> "tuple[np.ndarray, list[str]]":
    """As :func:`~spynco_mm.datasets.picture.pillow_samples`, with all the bits that can be read.

    Args:
        image: Opened by Pillow, not loaded.
        source: Where from.

    Returns:
        The samples, and what could not be read, in words.
    """
    samples, bits = None, 8
    if image.format in READERS:
        samples, bits = READERS[image.format](image, source)
    if samples is not None:
        return samples, []
    image.load()
    reduced = bits > 8 and image.mode not in ("I", "I;16")
    return pillow_samples(image), [f"8 of its {bits} bits"] * reduced
