"""Every combination of what a file can say of its samples, read by both of the ways there are."""

import struct
import zlib

import imagecodecs
import numpy as np
import pytest
import tifffile
from picture_files import (
    all_files,
    chunk,
    colour,
    gray,
    lossless_files,
    netpbm_files,
    png,
    png_files,
    tiff,
    tiff_files,
)
from PIL import Image

from spynco_mm.apis import read_picture
from spynco_mm.datasets import DataError, FolderColorization, read_image
from spynco_mm.datasets.decoding import picture_size


def on_white(shown, alpha):
    """What training gets: 8-bit RGB, with white behind."""

    def high(values):
        return values >> 8 if values.dtype == np.uint16 else values

    rgb = high(shown if shown.ndim == 3 else np.dstack([shown] * 3)).astype(float)
    if alpha is None:
        return rgb
    share = high(alpha)[..., None] / 255
    return rgb * share + 255 * (1 - share)


@pytest.mark.parametrize("files", [tiff_files, png_files, netpbm_files, lossless_files])
def test_samples_mean_what_the_file_says(tmp_path, files):
    count = 0
    for path, shown, alpha in files(tmp_path):
        picture = read_picture(path)
        assert picture.pixels.dtype == shown.dtype, path.name
        seen = slice(None) if alpha is None else alpha > 0
        # Multiplied by alpha and divided again, as far as the numbers go.
        off = 0
        if "assocalpha" in path.name:
            seen = alpha > np.iinfo(alpha.dtype).max // 2
            off = 1
        elif "cmyk" in path.name or "_12bits" in path.name:
            off = 1
        assert picture.pixels.shape == shown.shape, path.name
        difference = picture.pixels[seen].astype(int) - shown[seen]
        assert abs(difference).max() <= off, path.name
        if alpha is None:
            assert picture.alpha is None, path.name
        else:
            np.testing.assert_array_equal(picture.alpha, alpha, path.name)
        trained = read_image(path)
        assert trained.dtype == np.uint8
        assert abs(trained[seen] - on_white(shown, alpha)[seen]).max() <= 1, path.name
        count += 1
    assert count >= 10


def test_a_folder_of_all_kinds_is_a_data_set(tmp_path):
    shown = {str(path): on_white(*rest) for path, *rest in all_files(tmp_path)}
    dataset = FolderColorization(data_root=tmp_path)
    assert len(dataset) == len(shown) > 150
    for index in range(0, len(dataset), 7):
        item = dataset[index]
        seen = shown[item["img_path"]]
        if "assocalpha" not in item["img_path"]:
            assert abs(item["img_gray"] - seen).max() <= 1, item["img_path"]


def test_fax_and_shared_colours_go_through_libtiff(tmp_path):
    path = tmp_path / "a.tif"
    bits = gray(255) > 100
    neutral = np.full((10, 14, 2), 128, np.uint8)
    luma = gray(255).reshape(10, 2, 14, 2).swapaxes(1, 2).reshape(10, 14, 4)
    for orientation, expected in ((1, gray(255)), (6, np.rot90(gray(255), -1))):
        Image.fromarray(bits).save(path, compression="group4", tiffinfo={274: orientation})
        np.testing.assert_array_equal(read_image(path)[..., 0], (expected > 100) * 255)
        # Luma in squares of four, which share one pair of chroma; and a pair for each.
        shared = np.concatenate([luma, neutral], axis=2).tobytes()
        tiff(path, shared, 8, 3, 6, True, t530=[2, 2], t274=[orientation])
        np.testing.assert_array_equal(read_image(path)[..., 0], expected)
        tiff(path, shared, 8, 3, 6, t530=[2, 2], t274=[orientation])
        with pytest.raises(DataError, match=r"\(YCbCr, shared by pixels, not compressed\)"):
            read_image(path)
        own = np.dstack([gray(255), neutral[0, 0, 0] + 0 * gray(255), 128 + 0 * gray(255)])
        tiff(path, own.tobytes(), 8, 3, 6, t530=[1, 1], t274=[orientation])
        np.testing.assert_array_equal(read_image(path)[..., 0], expected)
        large = gray(255).repeat(8, 0).repeat(8, 1)
        options = dict(compression="jpeg", photometric="ycbcr", subsampling=(2, 2))
        tag = [(274, 3, 1, orientation, True)]
        tifffile.imwrite(path, np.dstack([large, *[0 * large + 128] * 2]), extratags=tag, **options)
        shown = read_image(path)[4::8, 4::8, 0].astype(int)
        assert abs(shown - expected).max() <= 20


@pytest.mark.parametrize(
    ("array", "options", "reason"),
    [
        (gray(255).astype("f4"), {}, "floating-point values have no agreed brightness"),
        (gray(255).astype("i2") - 9, {}, "signed values run from -9 to 246"),
        (gray(255).astype("i2"), {}, "signed values run from 0 to 255"),
        ((gray(255) // 2).astype("i1"), {}, "signed values run from 0 to 127"),
        (gray(255).astype("u4") << 24, {}, "32-bit values run from 0 to 4278190080"),
        (np.dstack([gray(65535)] * 3), dict(photometric="cielab"), r"kind of colours \(CIELAB\)"),
        (np.dstack([gray(255)] * 2), dict(photometric="minisblack", planarconfig="contig"), None),
    ],
)
def test_what_is_refused_says_why(tmp_path, array, options, reason):
    options = {"photometric": "minisblack", **options}
    tifffile.imwrite(tmp_path / "a.tif", array, metadata=None, **options)
    if reason is None:
        assert "1 channel beside the colours" in read_picture(tmp_path / "a.tif").note
        return
    for read in (read_picture, read_image):
        with pytest.raises(DataError, match=rf"a\.tif: .*{reason}.*; save it"):
            read(tmp_path / "a.tif")


def test_32_bit_integers_are_16_bits_as_pillow_stores_them(tmp_path):
    path = tmp_path / "a.tif"
    Image.fromarray(gray(65535).astype(np.int32)).save(path)
    np.testing.assert_array_equal(read_picture(path).pixels, gray(65535))


def test_strips_that_are_not_there(tmp_path):
    path = tmp_path / "a.tif"
    for compression in ("zlib", "jpeg", None):
        tifffile.imwrite(path, gray(255).repeat(9, 1), compression=compression, rowsperstrip=8)
        path.write_bytes(path.read_bytes()[: -len(path.read_bytes()) // 3])
        with pytest.raises(DataError, match=r"a\.tif: .*copy it again"):
            read_image(path)


def test_a_tiff_may_not_take_gigabytes(tmp_path):
    for tags, reason in (
        (dict(t256=[60_000], t257=[60_000]), "60000×60000 pixels are more than"),
        (dict(t256=[9_000], t257=[9_000], t277=[60_000]), "9000×9000 pixels of 60000 samples are"),
    ):
        tiff(tmp_path / "a.tif", gray(255).tobytes(), 8, **tags)
        with pytest.raises(DataError, match=reason):
            read_image(tmp_path / "a.tif")


@pytest.mark.parametrize(
    "suffix", ["avif", "jp2", "jfif", "jpe", "tga", "qoi", "pcx", "dib", "sgi"]
)
def test_other_formats(tmp_path, suffix):
    pixels = np.dstack([gray(255)] * 3).repeat(4, 0).repeat(4, 1)
    lossless = dict(quality=100) if suffix == "avif" else {}
    if suffix in ("jfif", "jpe"):
        lossless = dict(quality=98)
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(pixels).save(path, **lossless)
    assert abs(read_image(path).astype(int) - pixels).max() <= 4
    assert picture_size(path) == (80, 112)
    assert len(FolderColorization(data_root=tmp_path, test_mode=True)) == 1


def test_heif_needs_its_extra(tmp_path, monkeypatch):
    pillow_heif = pytest.importorskip("pillow_heif")
    pixels = np.dstack([gray(255)] * 3).repeat(4, 0).repeat(4, 1)
    path = tmp_path / "a.heic"
    pillow_heif.from_pillow(Image.fromarray(pixels)).save(path, quality=95)
    assert abs(read_image(path).astype(int) - pixels).max() <= 12
    assert len(FolderColorization(data_root=tmp_path, test_mode=True)) == 1
    deep = np.dstack([pixels[..., 0], pixels[::-1, :, 0], pixels[..., 0] // 2, pixels[..., 0]])
    deep = deep * np.uint16(257)
    for mode, stored in (("RGB", deep[..., :3]), ("RGBA", deep), ("L", deep[..., 0])):
        image = pillow_heif.from_bytes(f"{mode};16", (112, 80), stored.tobytes())
        image.save(path, quality=100, chroma=444)
        picture = read_picture(path)
        shown = np.dstack([picture.pixels, *([picture.alpha] if mode == "RGBA" else [])]).squeeze()
        assert (shown.dtype, picture.note) == (np.uint16, "")
        assert abs(shown.astype(int) - stored).max() <= 500, mode  # of 10 bits
    monkeypatch.setattr("spynco_mm.datasets.decoding.has_heif", lambda: False)
    monkeypatch.setattr("spynco_mm.datasets.images.has_heif", lambda: False)
    with pytest.raises(DataError, match=r"a\.heic: HEIF is read with the extra pillow-heif; pip"):
        read_image(path)
    with pytest.raises(DataError, match=r"1 file is no picture we read \(HEIF, 1 of them, is with"):
        FolderColorization(data_root=tmp_path, test_mode=True)


def test_what_is_read_with_8_bits_only_says_so(tmp_path):
    deep = colour(65535)
    header = struct.pack(">hBBHHHH", 474, 0, 2, 3, 28, 20, 3).ljust(512, b"\0")
    sgi = header + np.moveaxis(deep[::-1], 2, 0).astype(">u2").tobytes()
    signed = imagecodecs.jpeg2k_encode((deep.astype(int) - 32768).astype("i2"), level=0)
    still = imagecodecs.avif_encode(deep >> 6, level=100, bitspersample=10)
    frames = np.stack([deep >> 6, deep >> 7])
    moving = imagecodecs.avif_encode(frames, level=100, bitspersample=10)
    for name, content, note in (
        ("a.sgi", sgi, "8 of its 16 bits"),
        ("a.jp2", signed, ""),
        ("a.avif", still, ""),
        ("b.avif", moving, "8 of its 10 bits; the first of 2 pages"),
    ):
        (tmp_path / name).write_bytes(content)
        picture = read_picture(tmp_path / name)
        assert (picture.note, picture.pixels.dtype == np.uint8) == (note, bool(note)), name
        assert abs(read_image(tmp_path / name) - (deep / 257)).max() <= 1.5, name


def test_what_surrounds_the_pixels_of_a_png_does_not_cost_them(tmp_path):
    rgba = np.dstack([colour(255), gray(255)])
    for bits, values in ((8, rgba), (16, rgba * np.uint16(257))):
        png(tmp_path / "a.png", values, bits, 6)
        content = (tmp_path / "a.png").read_bytes()
        text = zlib.compress(bytes(5 << 20))
        long = chunk(b"zTXt", b"Title\0\0" + text)
        many = 70 * chunk(b"tEXt", b"Title\0" + bytes(1 << 20))
        wrong = chunk(b"tEXt", b"Title\0cat")[:-1] + b"?"
        profile = chunk(b"iCCP", b"sRGB\0\0" + text)
        good = chunk(b"tEXt", b"Author\0Atget")
        for bad, lost in (
            (long, "zTXt"),
            (many, "tEXt"),
            (wrong, "tEXt"),
            (profile, "iCCP"),
        ):
            for place in (33, len(content) - 12):  # before the pixels and behind
                mixed = content[:place] + good + bad + content[place:]
                (tmp_path / "a.png").write_bytes(mixed)
                assert picture_size(tmp_path / "a.png") == (20, 28)
                picture = read_picture(tmp_path / "a.png")
                np.testing.assert_array_equal(picture.pixels, values[..., :3])
                np.testing.assert_array_equal(picture.alpha, values[..., 3])
                if bad is wrong and place > 33:  # where Pillow looks at no checksum
                    continue
                assert f"without its {lost}, damaged or too long" in picture.note
                assert ("text" in picture.metadata) == (bad is not many)
    png(tmp_path / "a.png", values, bits, 6, animated=True)
    content = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(content[:33] + long + content[33:])
    assert read_picture(tmp_path / "a.png").note.startswith("without its acTL, fcTL, fdAT, zTXt")
    (tmp_path / "a.png").write_bytes(content[:33] + long + content[40:])
    with pytest.raises(DataError, match=r"a\.png: .*save it as PNG"):
        read_image(tmp_path / "a.png")


def test_a_text_is_no_tga(tmp_path):
    (tmp_path / "a.png").write_bytes(bytes([0, 0, 2]) + bytes(9) + bytes([9, 0, 9, 0, 24, 0]) * 99)
    with pytest.raises(DataError, match="not a picture"):
        read_image(tmp_path / "a.png")
