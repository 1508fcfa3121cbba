"""Pictures for training: every file as 8-bit RGB of any size, and where they are."""

import os
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
    """The picture files in a folder and its sub-folders, and all else, sorted by path.

    All else is other files, links to folders, which are not followed, dead links, and files and
    folders that cannot be opened. Hidden files and folders are left out.

    Raises:
        DataError: The folder is missing.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder; check data_root and the folder names.")
    suffixes, pictures, others = image_suffixes(), [], []
    walk = os.walk(folder, onerror=lambda error: others.append(Path(error.filename)))
    for where, folders, files in walk:
        folders[:] = [name for name in folders if not name.startswith(".")]
        links = [name for name in folders if os.path.islink(os.path.join(where, name))]
        for name in (*links, *files):
            path = Path(where, name)
            if not name.startswith("."):
                read = path.suffix.lower() in suffixes and os.path.isfile(path)
                (pictures if read else others).append(path)
    return sorted(pictures), sorted(others)


def unread(paths: "Sequence[Path]") -> str:
    """A sentence about what is left out, and how to have it read where there is a way."""
    names = [printable(path) for path in paths[:10]]
    more = f" and {len(paths) - len(names)} more" if len(paths) > len(names) else ""
    what = "1 file is no picture" if len(paths) == 1 else f"{len(paths)} files are no pictures"
    heif = sum(path.suffix.lower() in HEIF_SUFFIXES for path in paths)
    remedies = [f"HEIF, {heif} of them, is with pip install pillow-heif"] if heif else []
    if closed := sum(not os.path.isfile(path) for path in paths):
        remedies.append(
            f"{closed} of them a link to a folder, to be named itself, or not to be opened"
        )
    remedy = f" ({'; '.join(remedies)})" if remedies else ""
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
