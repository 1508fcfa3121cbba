"""Real files of every kind, and what is kept of them."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms, ImageOps
from skimage import data

from spynco_mm.apis import Picture, encode_picture, read_picture
from spynco_mm.datasets.images import DataError

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.fixture(scope="module")
def photo():
    return np.ascontiguousarray(data.chelsea()[40:100, 100:190])  # 60×90


@pytest.fixture(scope="module")
def gray(photo):
    return np.ascontiguousarray(photo[..., 1])


def saved(image, path, **options):
    image.save(path, **options)
    return path


def decoded(content):
    return Image.open(io.BytesIO(content))


# -------------------------------------------------------------------------------------- reading


def test_grey(gray, tmp_path):
    for mode in ("L", "RGB"):
        picture = read_picture(saved(Image.fromarray(gray).convert(mode), tmp_path / "a.png"))
        assert not picture.is_color
        np.testing.assert_array_equal(picture.pixels, gray)
        assert (picture.alpha, picture.metadata, picture.note) == (None, {}, "")


@pytest.mark.parametrize("suffix", [".png", ".tif", ".pgm"])
def test_grey_of_16_bits(gray, tmp_path, suffix):
    deep = gray.astype(np.uint16) * 200 + 13
    picture = read_picture(saved(Image.fromarray(deep), tmp_path / f"a{suffix}"))
    assert picture.pixels.dtype == np.uint16
    np.testing.assert_array_equal(picture.pixels, deep)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [3, 4])
def test_colour_of_16_bits(photo, tmp_path, suffix, channels):
    deep = np.dstack([photo, photo[..., 0]]).astype(np.uint16)[..., :channels] * 200 + 13
    path = tmp_path / f"a{suffix}"
    if suffix == ".png":
        cv2.imwrite(str(path), deep[..., [2, 1, 0, 3][:channels]])
    else:
        extra = ["unassalpha"] if channels == 4 else None
        tifffile.imwrite(path, deep, photometric="rgb", extrasamples=extra)
    picture = read_picture(path)
    assert picture.is_color
    np.testing.assert_array_equal(picture.pixels, deep[..., :3])
    if channels == 4:
        np.testing.assert_array_equal(picture.alpha, deep[..., 3])


def test_one_bit(gray, tmp_path):
    picture = read_picture(saved(Image.fromarray(gray).convert("1"), tmp_path / "a.png"))
    assert set(np.unique(picture.pixels)) == {0, 255}


def test_palette(photo, tmp_path):
    image = Image.fromarray(photo).quantize(32)
    picture = read_picture(saved(image, tmp_path / "a.gif"))
    np.testing.assert_array_equal(picture.pixels, np.asarray(image.convert("RGB")))
    image.info["transparency"] = 3
    picture = read_picture(saved(image, tmp_path / "b.png", transparency=3))
    np.testing.assert_array_equal(picture.alpha, np.where(np.asarray(image) == 3, 0, 255))


def test_cmyk(photo, tmp_path):
    path = saved(Image.fromarray(photo).convert("CMYK"), tmp_path / "a.jpg", quality=98)
    picture = read_picture(path)
    assert abs(picture.pixels.astype(int) - photo).mean() < 4


def test_alpha(photo, gray, tmp_path):
    for base in (photo, gray):
        image = Image.fromarray(np.dstack([base, gray]))
        picture = read_picture(saved(image, tmp_path / "a.png"))
        np.testing.assert_array_equal(picture.pixels, base)
        np.testing.assert_array_equal(picture.alpha, gray)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(photo, tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010E] = "a cat"
    path = saved(Image.fromarray(photo), tmp_path / "a.png", exif=exif)
    picture = read_picture(path)
    with Image.open(path) as image:
        np.testing.assert_array_equal(picture.pixels, np.asarray(ImageOps.exif_transpose(image)))
    result = decoded(encode_picture(picture, ".png"))
    assert dict(result.getexif()) == {0x010E: "a cat"}  # or it would be turned again


def test_16_bits_are_turned_as_well(gray, tmp_path):
    deep = gray.astype(np.uint16) * 200 + 13
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = read_picture(saved(Image.fromarray(deep), tmp_path / "a.png", exif=exif))
    np.testing.assert_array_equal(picture.pixels, np.rot90(deep, -1))


def test_several_pages(gray, tmp_path):
    first, second = Image.fromarray(gray), Image.fromarray(255 - gray)
    path = saved(first, tmp_path / "a.tif", save_all=True, append_images=[second, second])
    picture = read_picture(path)
    np.testing.assert_array_equal(picture.pixels, gray)
    assert picture.note == "the first of 3 pages"


def bomb(path, side):
    """A PNG of a few kilobytes that claims side×side pixels."""

    def chunk(kind, content):
        check = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes((side // 8 + 1) * 64))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )
    return path


@pytest.mark.parametrize("side", [10_000, 50_000])
def test_a_zip_bomb(tmp_path, side):
    path = bomb(tmp_path / "bomb.png", side)
    assert path.stat().st_size < 5000
    with pytest.raises(DataError, match="pixels"):
        read_picture(path)


def test_broken_files(photo, tmp_path):
    whole = saved(Image.fromarray(photo), tmp_path / "a.jpg").read_bytes()
    cases = {
        "truncated.jpg": (whole[: len(whole) // 2], "cannot be decoded"),
        "text.png": (b"this is no picture\n", "not a picture"),
        "empty.png": (b"", "is empty"),
        # Pillow would hand this to Ghostscript.
        "postscript.png": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a picture"),
    }
    for name, (content, reason) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=f"{name}: .*{reason}"):
            read_picture(tmp_path / name)
    path = saved(Image.fromarray(photo[..., 0].astype(np.float32)), tmp_path / "float.tif")
    with pytest.raises(DataError, match="floating-point values have no agreed brightness"):
        read_picture(path)
    with pytest.raises(DataError, match="there is no such file"):
        read_picture(tmp_path / "missing.png")


# -------------------------------------------------------------------------------------- writing


@pytest.mark.parametrize("suffix", [".png", ".tif", ".TIFF"])
@pytest.mark.parametrize("alpha", [False, True])
def test_16_bits_are_written(photo, tmp_path, suffix, alpha):
    deep = photo.astype(np.uint16) * 200 + 13
    picture = Picture(deep, deep[..., 0] if alpha else None)
    (tmp_path / f"a{suffix}").write_bytes(encode_picture(picture, suffix))
    again = read_picture(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(again.pixels, deep)
    if alpha:
        np.testing.assert_array_equal(again.alpha, deep[..., 0])


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".jpg"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_metadata_goes_along(photo, tmp_path, suffix, dtype):
    exif = Image.Exif()
    exif[0x010F] = "Zeiss"
    exif[0x8298] = "somebody"
    source = tmp_path / "source.jpg"
    saved(Image.fromarray(photo), source, exif=exif, icc_profile=SRGB, dpi=(300, 300))
    picture = read_picture(source)
    picture.pixels = picture.pixels.astype(dtype) * (257 if dtype == np.uint16 else 1)
    (tmp_path / f"a{suffix}").write_bytes(encode_picture(picture, suffix))
    with Image.open(tmp_path / f"a{suffix}") as result:
        assert result.info["icc_profile"] == SRGB
        assert result.getexif()[0x010F] == "Zeiss"
        assert result.getexif()[0x8298] == "somebody"
        if suffix != ".webp":  # has no place for it
            assert [round(float(value)) for value in result.info["dpi"]] == [300, 300]
    if suffix in (".png", ".tif"):
        np.testing.assert_array_equal(read_picture(tmp_path / f"a{suffix}").pixels, picture.pixels)


def test_a_profile_for_grey_is_not_written_to_colour(gray, tmp_path):
    profile = bytearray(SRGB)
    profile[16:20] = b"GRAY"
    path = saved(Image.fromarray(gray), tmp_path / "a.png", icc_profile=bytes(profile))
    assert "icc_profile" in Image.open(path).info
    assert read_picture(path).metadata == {}


def test_how_a_tiff_is_stored_is_no_metadata(gray, tmp_path):
    path = saved(Image.fromarray(gray), tmp_path / "a.tif", description="a cat")
    content = encode_picture(
        Picture(np.dstack([gray] * 3), None, read_picture(path).metadata), ".jpg"
    )
    assert dict(decoded(content).getexif()) == {270: "a cat"}


def test_jpeg_keeps_the_chroma_and_refuses_alpha(photo):
    red = np.zeros((16, 16, 3), np.uint8)
    red[:, ::2, 0] = 255
    result = np.asarray(decoded(encode_picture(Picture(red), ".jpg")))
    assert abs(result.astype(int) - red).mean() < 5  # 4:2:0 would smear it: 60
    with pytest.raises(DataError, match="JPEG cannot hold its transparency"):
        encode_picture(Picture(photo, photo[..., 0]), ".jpeg")
    with pytest.raises(DataError, match="cannot be written as WEBP"):
        encode_picture(Picture(np.zeros((1, 20000, 3), np.uint8)), ".webp")
