"""Real files of every kind, and what is kept of them."""

import io
import re
import struct
import zlib

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms, ImageOps, PngImagePlugin
from PIL.TiffImagePlugin import IFDRational as Rational
from skimage import data

from spynco_mm.apis import Picture, encode_picture, read_picture
from spynco_mm.apis.pictures import fit_to_format, picture_of
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


def test_premultiplied_grey(gray):
    picture = picture_of(Image.fromarray(np.dstack([gray // 2, gray * 0 + 255])).convert("La"))
    np.testing.assert_array_equal(picture.pixels, gray // 2)


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


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
@pytest.mark.parametrize("form", ['tiff:Orientation="6"', "<tiff:Orientation>6</tiff:Orientation>"])
def test_an_orientation_in_xmp_is_applied_once(photo, tmp_path, suffix, form):
    xmp = f"<x:xmpmeta xmlns:x='adobe:ns:meta/'>{form}</x:xmpmeta>".encode()
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", xmp.decode())
    exif = Image.Exif()
    exif[0x0112] = 6
    more = {".png": dict(pnginfo=text, exif=exif), ".tif": dict(tiffinfo={274: 6, 700: xmp})}
    options = more.get(suffix, dict(xmp=xmp, exif=exif))
    picture = read_picture(saved(Image.fromarray(photo), tmp_path / f"a{suffix}", **options))
    assert picture.pixels.shape[:2] == (90, 60)
    assert picture.metadata["xmp"] == xmp.replace(b"6", b"1")
    (tmp_path / f"b{suffix}").write_bytes(encode_picture(picture, suffix))
    with Image.open(tmp_path / f"b{suffix}") as result:
        assert ImageOps.exif_transpose(result).size == (60, 90)
    assert read_picture(tmp_path / f"b{suffix}").pixels.shape[:2] == (90, 60)


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
    tifffile.imwrite(path, gray, subfiletype=1)
    assert read_picture(path).note == "the file has a reduced picture alone"


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
    picture = read_picture(path)
    assert picture.metadata == {}
    assert picture.note == "without its colour profile, which is for GRAY"


def test_how_a_tiff_is_stored_is_no_metadata(gray, tmp_path):
    path = saved(Image.fromarray(gray), tmp_path / "a.tif", description="a cat")
    content = encode_picture(
        Picture(np.dstack([gray] * 3), None, read_picture(path).metadata), ".jpg"
    )
    assert dict(decoded(content).getexif()) == {270: "a cat"}


# ------------------------------------------------------------------------------------- metadata

IPTC = b"\x1c\x02\x78\0\x05a cat"
XMP = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'>a cat</x:xmpmeta>"
FIELDS = {0x010F: "Zeiss", 0x8298: "somebody"}
DIRECTORIES = {
    0x8769: {0x829A: 0.125, 0x9003: "1931:05:06 07:08:09", 0x927C: b"\0\1\2", 0xA005: {1: "R98"}},
    0x8825: {1: "N", 2: (50.0, 6.0, 30.5), 29: "1931:05:06"},
}


def full_exif():
    exif = Image.Exif()
    for tag, value in {**FIELDS, **DIRECTORIES}.items():
        exif[tag] = value
    return exif


def fields_of(image):
    """EXIF as nested dicts of plain values."""

    def plain(values):
        return {
            tag: {1: values_below(0xA005)[1]} if tag == 0xA005 else
            tuple(map(float, v)) if isinstance(v, tuple) else
            float(v) if isinstance(v, Rational) else v
            for tag, v in values.items()
        }  # fmt: skip

    def values_below(tag):
        return image.getexif().get_ifd(tag)

    fields = {tag: value for tag, value in image.getexif().items() if tag in FIELDS}
    return fields | {tag: plain(values_below(tag)) for tag in DIRECTORIES}


def segment(marker, data):
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(data) + 2) + data


def jpeg_with(path, photo, *segments):
    """A JPEG file with segments of any content right after its start."""
    buffer = io.BytesIO()
    Image.fromarray(photo).save(buffer, "JPEG", quality=95)
    content = buffer.getvalue()
    path.write_bytes(content[:2] + b"".join(segments) + content[2:])
    return path


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg", ".webp"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_directories_of_exif_are_kept(photo, tmp_path, suffix, dtype):
    picture = read_picture(saved(Image.fromarray(photo), tmp_path / "a.jpg", exif=full_exif()))
    assert picture.note == ""
    picture.pixels = picture.pixels.astype(dtype) * (257 if dtype == np.uint16 else 1)
    (tmp_path / f"b{suffix}").write_bytes(encode_picture(picture, suffix))
    with Image.open(tmp_path / f"b{suffix}") as image:
        assert fields_of(image) == FIELDS | DIRECTORIES
    # From there as well, which for TIFF is another way of reading.
    again = read_picture(tmp_path / f"b{suffix}")
    assert again.note == ""
    assert fields_of(decoded(encode_picture(again, ".jpg"))) == FIELDS | DIRECTORIES


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("big", [False, True])
def test_metadata_of_tiff(gray, tmp_path, bits, big):
    path = tmp_path / "a.tif"
    tags = [(315, 2, 0, "Atget", True), (700, 1, len(XMP), XMP, True)]
    tags += [(33723, 7, len(IPTC), IPTC, True), (34675, 7, len(SRGB), SRGB, True)]
    tags += [(33550, 12, 3, (1.0, 1.0, 0.0), True)]  # GeoTIFF's scale
    pixels = gray.astype(f"u{bits // 8}")
    tifffile.imwrite(
        path, pixels, photometric="minisblack", bigtiff=big, description="a cat", extratags=tags,
        resolution=(100, 50), resolutionunit="centimeter", metadata=None, byteorder=">",
    )  # fmt: skip
    picture = read_picture(path)
    assert {key: picture.metadata[key] for key in ("xmp", "iptc", "icc_profile", "dpi")} == {
        "xmp": XMP,
        "iptc": IPTC,
        "icc_profile": SRGB,
        "dpi": (254, 127),
    }
    assert picture.note == "without the TIFF tags 33550"
    picture.pixels = np.dstack([picture.pixels] * 3)
    again = tmp_path / "b.tif"
    again.write_bytes(encode_picture(picture, ".tif"))
    kept = read_picture(again)
    assert kept.metadata == picture.metadata
    with Image.open(again) as image:
        assert (image.tag_v2[270], image.tag_v2[315]) == ("a cat", "Atget")


@pytest.mark.parametrize(
    ("suffix", "lost"),
    [
        (".jpg", set()),
        (".png", {"IPTC"}),
        (".tif", {"comment"}),
        (".webp", {"IPTC", "comment", "resolution"}),
    ],
)
def test_words_are_kept_where_the_format_can(photo, tmp_path, suffix, lost):
    photoshop = b"Photoshop 3.0\x008BIM\x04\x04\0\0" + struct.pack(">I", len(IPTC)) + IPTC
    path = jpeg_with(
        tmp_path / "a.jpg",
        photo,
        segment(0xE0, b"JFIF\0\x01\x01\x01\x01\x2c\x01\x2c\0\0"),  # 300 dpi
        segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP),
        segment(0xED, photoshop + bytes(len(IPTC) % 2)),
        segment(0xFE, "für Élise".encode("latin-1")),
    )
    picture = read_picture(path)
    assert picture.metadata.keys() == {"dpi", "xmp", "iptc", "comment"}
    fitted = fit_to_format(picture, suffix)
    assert set(re.findall("without its ([^,]+), for which", fitted.note)) == lost
    (tmp_path / f"b{suffix}").write_bytes(encode_picture(fitted, suffix))
    with Image.open(tmp_path / f"b{suffix}") as image:
        image.load()
        assert image.info.get("xmp", image.tag_v2[700] if suffix == ".tif" else None) == XMP
        if suffix == ".jpg":
            assert image.info["photoshop"][0x0404] == IPTC
            assert image.info["comment"] == "für Élise".encode("latin-1")
        if suffix == ".png":
            assert image.text["Comment"] == "für Élise"
        if suffix == ".tif":
            assert image.tag_v2[33723] == IPTC


def test_what_has_no_place_is_told(gray, tmp_path):
    exif = Image.Exif()
    exif[270], exif[18246] = "a cat", 4  # ImageDescription, and Rating
    fitted = fit_to_format(
        read_picture(saved(Image.fromarray(gray), tmp_path / "a.jpg", exif=exif)), ".tif"
    )
    assert fitted.note == "without the EXIF tags Rating"
    text = PngImagePlugin.PngInfo()
    text.add_text("Raw profile type iptc", "\niptc\n       4\n1c025000\n")
    path = saved(Image.fromarray(gray), tmp_path / "a.png", pnginfo=text)
    assert read_picture(path).note == "without the raw profiles iptc in its text"
    content = saved(Image.fromarray(gray), tmp_path / "b.png").read_bytes()
    for gamma, note in ((100_000, "without its gamma of 1"), (45_455, "")):
        data = b"gAMA" + struct.pack(">I", gamma)
        chunk = struct.pack(">I", 4) + data + struct.pack(">I", zlib.crc32(data))
        path.write_bytes(content[:33] + chunk + content[33:])
        assert read_picture(path).note == note


def test_text_of_png(gray, photo, tmp_path):
    text = PngImagePlugin.PngInfo()
    text.add_text("Title", "Käse")
    text.add_text("Author", "写真", zip=True)
    path = saved(Image.fromarray(gray), tmp_path / "a.png", pnginfo=text)
    picture = read_picture(path)
    for dtype in (np.uint8, np.uint16):
        picture.pixels = photo.astype(dtype)
        assert decoded(encode_picture(picture, ".png")).text == {"Title": "Käse", "Author": "写真"}
    note = fit_to_format(picture, ".jpg").note
    assert "without its text, for which JPG has no place" in note
    assert "with 8 of its 16 bits, for which JPG has no place" in note


def test_a_text_where_a_number_belongs(photo, tmp_path):
    exif = b"II*\0\x08\0\0\0" + struct.pack("<H", 2)
    for tag, value in ((0x010E, b"cat\0"), (0x011A, b"abc\0")):
        exif += struct.pack("<HHI", tag, 2, 4) + value
    path = jpeg_with(tmp_path / "a.jpg", photo, segment(0xE1, b"Exif\0\0" + exif + bytes(4)))
    picture = read_picture(path)
    assert picture.note == "EXIF without XResolution, damaged"
    for suffix in (".jpg", ".png", ".tif", ".webp"):
        assert decoded(encode_picture(picture, suffix)).getexif()[0x010E] == "cat"


def test_damaged_metadata_does_not_cost_the_picture(photo, tmp_path):
    rng = np.random.default_rng(0)
    good = full_exif().tobytes()
    for trial in range(60):
        exif = bytearray(good)
        for place in rng.integers(14, len(exif), 6):
            exif[place] = rng.integers(256)
        path = jpeg_with(tmp_path / "a.jpg", photo, segment(0xE1, bytes(exif)))
        picture = read_picture(path)
        for suffix in (".jpg", ".png", ".tif"):
            assert decoded(encode_picture(picture, suffix)).size in (SIZE, SIZE[::-1]), trial


SIZE = (90, 60)


@pytest.mark.parametrize("dpi", [(float("inf"), 300), (1e9, 1e9), (float("nan"),) * 2])
def test_a_resolution_that_is_none_does_not_cost_the_picture(photo, dpi):
    image = Image.fromarray(photo)
    image.info["dpi"] = dpi
    picture = picture_of(image)
    assert picture.note == "without its resolution, damaged"
    assert decoded(encode_picture(picture, ".jpg")).size == SIZE


def test_what_is_wholly_opaque_has_no_alpha(gray, tmp_path):
    opaque = np.dstack([gray, gray, gray, np.full_like(gray, 255)])
    Image.fromarray(opaque).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "a.jpg")
    picture = read_picture(tmp_path / "a.jpg")
    assert picture.alpha is None
    assert decoded(encode_picture(picture, ".jpg")).mode == "RGB"


def test_jpeg_keeps_the_chroma_and_refuses_alpha(photo):
    red = np.zeros((16, 16, 3), np.uint8)
    red[:, ::2, 0] = 255
    result = np.asarray(decoded(encode_picture(Picture(red), ".jpg")))
    assert abs(result.astype(int) - red).mean() < 5  # 4:2:0 would smear it: 60
    with pytest.raises(DataError, match="JPEG cannot hold its transparency"):
        encode_picture(Picture(photo, photo[..., 0]), ".jpeg")
    with pytest.raises(DataError, match="20000×1 pixels cannot be written as WEBP, which"):
        encode_picture(Picture(np.zeros((1, 20000, 3), np.uint8)), ".webp")
