"""Pictures for training: every file as 8-bit RGB of any size, and where they are."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from spynco_mm.utils.console import printable
from spynco_mm.utils.files import PathLike

from .decoding import HEIF_SUFFIXES, TGA_SUFFIXES, decoding, has_heif
from .picture import DataError, Picture, bytes_of

#: File names that count as pictures, in any case.
IMAGE_SUFFIXES = (
    ".apng", ".avif", ".bmp", ".dib", ".gif", ".j2c", ".j2k", ".jfif", ".jp2", ".jpc", ".jpe",
    ".jpeg", ".jpf", ".jpg", ".jpx", ".mpo", ".pbm", ".pcx", ".pgm", ".png", ".pnm", ".ppm", ".qoi",
    ".ras", ".sgi", ".tif", ".tiff", ".webp", *TGA_SUFFIXES,
)  # fmt: skip


def to_rgb8(picture: Picture) -> np.ndarray:
    """A picture as H×W×3 uint8, RGB: the high byte of 16 bits, and white behind what is
    transparent.
    """
    pixels = bytes_of(picture.pixels)
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    if picture.alpha is None:
        return np.require(pixels, requirements=["C", "W"])
    image = Image.fromarray(np.concatenate([pixels, bytes_of(picture.alpha)[..., None]], axis=2))
    white = Image.new("RGBA", image.size, "white")
    return np.array(Image.alpha_composite(white, image).convert("RGB"))


def read_image(path: PathLike) -> np.ndarray:
    """Read a picture file as H×W×3 uint8, RGB, in [0, 255].

    Grey, 1-bit and palette pictures are replicated or looked up; 16-bit channels keep their high
    byte; transparent pixels are composited on white; CMYK is converted without a colour profile; an
    EXIF orientation is applied; of an animation the first frame is read.

    Raises:
        DataError: The file is missing, empty, truncated, no picture, larger than
            :data:`~spynco_mm.datasets.picture.MAX_PIXELS`, or of values without a defined
            brightness.
    """
    with decoding(path) as (picture, _):
        return to_rgb8(picture)


def fit_image(image: np.ndarray, size: int) -> np.ndarray:
    """Resize the shorter side of an H×W×3 uint8 picture to ``size`` and crop the central square.

    Bicubic and antialiased (Pillow's filter widens with the reduction).
    """
    if image.shape[:2] == (size, size):
        return image
    return np.array(ImageOps.fit(Image.fromarray(image), (size, size), Image.Resampling.BICUBIC))


def image_suffixes() -> "tuple[str, ...]":
    """The file names that count as pictures here, HEIF's among them if its extra is installed."""
    return (*IMAGE_SUFFIXES, *(HEIF_SUFFIXES if has_heif() else ()))


def list_files(folder: PathLike) -> "tuple[list[Path], list[Path]]":
    """The picture files in a folder and its sub-folders, and all other files, sorted by path.

    Hidden files and folders are left out, and links to folders are not followed.

    Raises:
        DataError: The folder is missing.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder; check data_root and the folder names.")
    files = sorted(
        path
        for path in folder.rglob("*")
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    )
    suffixes = image_suffixes()
    pictures = [path for path in files if path.suffix.lower() in suffixes]
    return pictures, [path for path in files if path.suffix.lower() not in suffixes]


def unread(paths: "Sequence[Path]") -> str:
    """A sentence about files that are left out, and how to have them read where there is a way."""
    names = [printable(path) for path in paths[:10]]
    more = f" and {len(paths) - len(names)} more" if len(paths) > len(names) else ""
    what = "1 file is no picture" if len(paths) == 1 else f"{len(paths)} files are no pictures"
    heif = sum(path.suffix.lower() in HEIF_SUFFIXES for path in paths)
    remedy = f" (HEIF, {heif} of them, is with pip install pillow-heif)" if heif else ""
    return f"{what} we read{remedy}: {', '.join(names)}{more}"


def list_images(folder: PathLike) -> list[Path]:
    """The picture files of :func:`list_files`.

    Raises:
        DataError: The folder is missing, or holds no picture.
    """
    paths, others = list_files(folder)
    if not paths:
        raise DataError(
            f"{folder}: there is no picture in this folder (looked for "
            f"{', '.join(image_suffixes())}); put the pictures there."
            + (f" {unread(others)}." if others else "")
        )
    return paths
