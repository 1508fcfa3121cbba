"""Read TIFF by tifffile, which leaves the meaning of the samples to us."""

import logging

import numpy as np
import tifffile
from PIL import Image

from spynco_mm.utils.files import PathLike

from .picture import (
    BAND,
    FLOATING_POINT,
    DataError,
    Picture,
    assembled,
    bytes_of,
    check_size,
    full_range,
    integers,
    pillow_samples,
    without_premultiplication,
)

# What tifffile thinks of a damaged file is said by the error, if there is one.
tifffile.logger().addHandler(logging.NullHandler())

TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


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
        return integers(values), 0xFFFF
    # Not of use by the specification, but where all values keep below 1023, 4095 or 16383 and the
    # file says that those are the highest, it is a camera's or scanner's 10, 12 or 14 bits.
    most = np.max(page.tags.valueof(281, default=0))
    if bits == 16 and most in (0x3FF, 0xFFF, 0x3FFF) and values.max() <= most:
        return values, int(most)
    return values.view(np.uint8) if values.dtype == bool else values, 2**bits - 1


def _decode_tiff(page: tifffile.TiffPage, orientation: int) -> Picture:
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
        color = colors[color[..., 0]]
    else:
        color = full_range(color, most)
    alpha = full_range(extra[..., alphas[0]], most) if alphas else None
    if alphas and page.photometric == 3:
        alpha = bytes_of(alpha)  # as the colours of the palette
    if alphas and meanings[alphas[0]] == 1:
        color = without_premultiplication(color, alpha)
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
    return assembled(color, orientation, notes)


def _main_page(file: tifffile.TiffFile) -> "tuple[tifffile.TiffPage, list[str]]":
    """The first page, or the largest where that is a reduced one, and what else there is."""
    first = file.pages.first
    notes = [f"the first of {len(file.pages)} pages"] if len(file.pages) > 1 else []
    if not first.subfiletype & 1:
        return first, notes
    pages = [p for page in file.pages for p in (page, *(page.pages or ())) if not p.subfiletype & 5]
    if not pages:
        return first, [*notes, "the file has a reduced picture alone"]
    largest = max(pages, key=lambda page: page.imagewidth * page.imagelength)
    return largest, [f"the largest of {len(pages)} pages"] if len(pages) > 1 else []


def read_tiff(path: PathLike) -> Picture:
    with tifffile.TiffFile(path) as file:
        page, pages = _main_page(file)
        first = file.pages.first
        check_size(page.imagewidth, page.imagelength, page.samplesperpixel)
        # Fax, JPEG as it was in TIFF's version 5, colours of which several pixels share some, and
        # L*a*b* need libtiff or Pillow. All have 8 bits or one.
        if (
            page.compression not in (2, 3, 4, 6)
            and (not page.is_subsampled or page.compression == 7)
            and (page.photometric != 8 or page.bitspersample != 8)
        ):
            turned = first.tags.valueof(274, default=1)
            picture = _decode_tiff(page, page.tags.valueof(274, default=turned))
        elif page.compression == 1 and page.is_subsampled:
            raise DataError(
                "its kind of colours (YCbCr, shared by pixels, not compressed) is not read; save "
                "it as RGB."
            )
        elif page is not first:
            raise DataError(
                "its first page is a reduced picture, and the one itself is stored in a way that "
                "is read on a first page alone; save it without the reduced one."
            )
        else:
            # Opened, since Pillow would map a path's file with the size that is upright.
            with open(path, "rb") as opened, Image.open(opened, formats=["TIFF"]) as image:
                image.load()  # and turns it
                picture = assembled(pillow_samples(image), 1, [])
        picture.add_notes(pages)
        return picture


def tiff_size(path: PathLike) -> "tuple[int, int]":
    """Height and width of the page that is read."""
    with tifffile.TiffFile(path) as file:
        page, _ = _main_page(file)
        return page.imagelength, page.imagewidth
