"""Decode any picture file with all its bits, or say in one sentence why not.

TIFF is read by tifffile, which leaves the meaning of the samples to us, 16-bit PNG by libpng
(imagecodecs), everything else by Pillow: each of the three is right where another is not.
"""

import functools
import importlib.util
import io
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from PIL import Image

from spynco_mm.utils.files import PathLike

from .deep import Source, file_samples
from .picture import (
    ORIENTATION,
    DataError,
    Picture,
    assembled,
    check_size,
    pillow_samples,
)
from .tiff import TIFF_SIGNATURES, read_tiff, tiff_size

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
                "HEIF is read with the extra pillow-heif; pip install pillow-heif, or save it as "
                "JPEG."
            )
        _register_heif()
        return (*FORMATS, "HEIF")
    return FORMATS


def orientation_of(image: Image.Image) -> int:
    """A Pillow image's EXIF orientation, 1 to 8; 1 if it has none that can be read."""
    try:
        orientation = image.getexif().get(ORIENTATION, 1)
    except Exception:  # A damaged EXIF block is no reason to refuse the pixels.
        return 1
    return orientation if orientation in range(1, 9) else 1


def decode_image(image: Image.Image, source: Source | None = None) -> Picture:
    """The picture of a Pillow image, without its metadata.

    Args:
        image: Of any mode but floating point.
        source: What it was opened from, if it was: where Pillow drops bits, they are read there.

    Raises:
        DataError: Its values have no defined brightness.
    """
    # First, since to ask for EXIF loads a PNG and hides what goes wrong there.
    samples, notes = (pillow_samples(image), []) if source is None else file_samples(image, source)
    # A telephone's JPEG may carry other views, and is one picture all the same.
    frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
    if frames > 1:
        notes.append(f"the first of {frames} pages")
    return assembled(samples, orientation_of(image), notes)


PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
ANIMATION = (b"acTL", b"fcTL", b"fdAT")


def _without_damaged_chunks(path: PathLike) -> "tuple[io.BytesIO, list[str]]":
    """A PNG file without what keeps Pillow from opening it though its pixels do not need it.

    That is texts and profiles of more than a MiB, and damaged ones; an animation becomes its first
    picture.

    Returns:
        Its content, and the names of the chunks that are left out.
    """
    content = Path(path).read_bytes()
    chunks, start = [], 8
    while start < len(content):
        end = start + 12 + int.from_bytes(content[start : start + 4], "big")
        chunks.append((content[start + 4 : start + 8], content[start:end]))
        start = end

    def of_pixels(name: bytes) -> bool:
        return name[:1].isupper() or name == b"tRNS"

    def opens(chunk: bytes) -> bool:
        """Whether Pillow takes it, right before the pixels."""
        before_pixels = content[:8] + chunks[0][1] + chunk + bytes(4) + b"IDAT"
        try:
            Image.open(io.BytesIO(before_pixels), formats=["PNG"])
        except Exception:  # It raises whatever is wrong with the chunk.
            return False
        return True

    keep = [of_pixels(name) or (name not in ANIMATION and opens(c)) for name, c in chunks]
    if all(keep):  # each is taken by itself, but they are too many
        keep = [of_pixels(name) for name, _ in chunks]
    lost = {name.decode("latin-1") for (name, _), kept in zip(chunks, keep) if not kept}
    sound = b"".join(chunk for (_, chunk), kept in zip(chunks, keep) if kept)
    return io.BytesIO(content[:8] + sound), sorted(lost)


def _head(path: PathLike) -> bytes:
    with open(path, "rb") as file:
        head = file.read(24)
    if not head:
        raise DataError("the file is empty; copy it again or remove it.")
    return head


@contextmanager
def _opened(source: Source, formats: "tuple[str, ...]") -> "Iterator[tuple[Picture, Image.Image]]":
    with Image.open(source, formats=formats) as image:
        check_size(*image.size)
        yield decode_image(image, source), image


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
            yield read_tiff(path), None
            return
        formats = _formats(path, head)
        with ExitStack() as stack:
            try:
                picture, image = stack.enter_context(_opened(path, formats))
            except (DataError, Image.DecompressionBombError):
                raise
            except Exception:
                if head[:8] != PNG_SIGNATURE:
                    raise
                sound, lost = _without_damaged_chunks(path)
                picture, image = stack.enter_context(_opened(sound, formats))
                picture.add_notes([f"without its {', '.join(lost)}, damaged or too long"])
            yield picture, image
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except Image.UnidentifiedImageError as error:
        raise DataError(
            f"{path}: this is not a picture of a kind that is read, or is damaged; save it as PNG, "
            "or remove it."
        ) from error
    except Image.DecompressionBombError as error:
        raise DataError(f"{path}: {error}; make the picture smaller.") from error
    except FileNotFoundError as error:
        raise DataError(f"{path}: there is no such file; check the path.") from error
    except (IsADirectoryError, PermissionError) as error:
        raise DataError(f"{path}: it cannot be opened ({error.strerror}).") from error
    except Exception as error:  # Decoders raise whatever their input makes them raise.
        reason = str(error) or type(error).__name__
        raise DataError(
            f"{path}: the picture cannot be decoded ({reason}); copy it again, or save it as PNG."
        ) from error


def picture_size(path: PathLike) -> "tuple[int, int] | None":
    """Height and width by a file's header, not turned; None if it has none that can be read."""
    try:
        head = _head(path)
        if head[:4] in TIFF_SIGNATURES:
            return tiff_size(path)
        if head[:8] == PNG_SIGNATURE:
            return struct.unpack(">II", head[16:])[::-1]
        with Image.open(path, formats=_formats(path, head)) as image:
            return image.size[::-1]
    except Exception:  # Why it cannot be read is found out, and reported, when it is.
        return None
