"""Read any picture file as 8-bit RGB, or say in one sentence why not."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

PathLike = str | os.PathLike

#: File names that count as pictures, in any case.
IMAGE_SUFFIXES = (
    ".bmp",
    ".gif",
    ".jpeg",
    ".jpg",
    ".pbm",
    ".pgm",
    ".png",
    ".pnm",
    ".ppm",
    ".tif",
    ".tiff",
    ".webp",
)

#: Their decoders, of which JPEG includes MPO. Pillow has more, and some start other programs.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
# Pillow loads most of them when first asked, which threads must not do at the same time.
Image.init()

#: Larger pictures are refused: a file of a few kilobytes can ask for gigabytes of memory.
MAX_PIXELS = 89_478_485


class DataError(ValueError):
    """Data that cannot be used. The message is one sentence for the user: what, why, what to do."""


def _to_rgb8(image: Image.Image, path: PathLike) -> Image.Image:
    """Any Pillow mode as RGB of 8 bits a channel."""
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 0xFFFF:
            raise DataError(
                f"{path}: its 32-bit values run from {values.min()} to {values.max()}, which have "
                "no agreed brightness; save it with 8 or 16 bits."
            )
        # The high byte, as Pillow does itself for 16-bit RGB. It is exact for both usual ways to
        # widen 8 bits to 16, v·256 and v·257; Pillow's own convert() clips at 255 instead.
        return Image.fromarray((values >> 8).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise DataError(
            f"{path}: its floating-point values have no agreed brightness; save it with 8 or 16 "
            "bits."
        )
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


@contextmanager
def decoding(path: PathLike) -> Iterator[Image.Image]:
    """A picture file, opened and decoded.

    Raises:
        DataError: It cannot be, or what is done with it fails; see :func:`read_image`.
    """
    try:
        if os.path.getsize(path) == 0:
            raise DataError(f"{path}: the file is empty; copy it again or remove it.")
        with Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise DataError(
                    f"{path}: {image.width}×{image.height} pixels are more than the {MAX_PIXELS} "
                    "that are read; make the picture smaller."
                )
            image.load()
            yield image
    except DataError:
        raise
    except Image.UnidentifiedImageError as error:
        raise DataError(f"{path}: this is not a picture Pillow can read; remove it.") from error
    except Image.DecompressionBombError as error:
        raise DataError(f"{path}: {error}; make the picture smaller.") from error
    except FileNotFoundError as error:
        raise DataError(f"{path}: there is no such file; check the path.") from error
    except Exception as error:  # Decoders raise whatever their input makes them raise.
        raise DataError(
            f"{path}: the picture cannot be decoded ({error}); copy it again or remove it."
        ) from error


def read_image(path: PathLike) -> np.ndarray:
    """Read a picture file as H×W×3 uint8, RGB, in [0, 255].

    Grey, 1-bit and palette pictures are replicated or looked up; 16-bit channels keep their high
    byte; transparent pixels are composited on white; CMYK is converted without a colour profile; an
    EXIF orientation is applied; of an animation the first frame is read.

    Raises:
        DataError: The file is missing, empty, truncated, no picture, larger than
            :data:`MAX_PIXELS`, or of values without a defined brightness.
    """
    with decoding(path) as image:
        image = _to_rgb8(ImageOps.exif_transpose(image), path)
    return np.array(image)


def fit_image(image: np.ndarray, size: int) -> np.ndarray:
    """Resize the shorter side of an H×W×3 uint8 picture to ``size`` and crop the central square.

    Bicubic and antialiased (Pillow's filter widens with the reduction).
    """
    if image.shape[:2] == (size, size):
        return image
    return np.array(ImageOps.fit(Image.fromarray(image), (size, size), Image.Resampling.BICUBIC))


def list_images(folder: PathLike) -> list[Path]:
    """All picture files in a folder and its sub-folders, sorted by path.

    Hidden files and folders are left out, and links to folders are not followed.

    Raises:
        DataError: The folder is missing, or holds no picture.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder; check data_root and the folder names.")
    paths = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    )
    if not paths:
        raise DataError(
            f"{folder}: there is no picture in this folder (looked for "
            f"{', '.join(IMAGE_SUFFIXES)}); put the pictures there."
        )
    return paths
