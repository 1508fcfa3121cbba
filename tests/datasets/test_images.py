import os

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from spynco_mm.datasets import DataError, list_images, read_image
from spynco_mm.datasets.images import fit_image, list_files, unread

RGB = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3) * 2  # odd sizes, never square
GRAY = RGB[..., 0]


def gray3(gray):
    return np.repeat(gray[..., None], 3, axis=2)


def check(path, expected):
    image = read_image(path)
    assert image.dtype == np.uint8 and image.flags.writeable
    np.testing.assert_array_equal(image, expected)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "ppm"])
def test_lossless_rgb(tmp_path, suffix):
    Image.fromarray(RGB).save(tmp_path / f"a.{suffix}")
    check(tmp_path / f"a.{suffix}", RGB)


@pytest.mark.parametrize("suffix", ["jpg", "webp"])
def test_lossy_rgb(tmp_path, suffix):
    smooth = np.array(Image.fromarray(RGB[:2, :2]).resize((41, 33)))
    Image.fromarray(smooth).save(tmp_path / f"a.{suffix}", quality=95)
    assert np.abs(read_image(tmp_path / f"a.{suffix}").astype(int) - smooth).max() < 12


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm", "gif"])
def test_gray(tmp_path, suffix):
    Image.fromarray(GRAY).save(tmp_path / f"a.{suffix}")
    check(tmp_path / f"a.{suffix}", gray3(GRAY))


@pytest.mark.parametrize("suffix", ["png", "tif", "pbm"])
def test_one_bit(tmp_path, suffix):
    bits = GRAY > 100
    Image.fromarray(bits).save(tmp_path / f"a.{suffix}")
    check(tmp_path / f"a.{suffix}", gray3(bits * np.uint8(255)))


def test_palette(tmp_path):
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "P")
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    image.save(tmp_path / "a.png")
    check(tmp_path / "a.png", [[[10, 20, 30], [40, 50, 60], [70, 80, 90]]])


def test_palette_with_a_transparent_colour_and_with_alpha_per_colour(tmp_path):
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "P")
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    image.save(tmp_path / "a.png", transparency=1)
    check(tmp_path / "a.png", [[[10, 20, 30], [255, 255, 255], [70, 80, 90]]])
    image.save(tmp_path / "b.png", transparency=bytes([255, 51, 0]))
    # 51/255 = 0.2: 0.2·(40, 50, 60) + 0.8·255
    check(tmp_path / "b.png", [[[10, 20, 30], [212, 214, 216], [255, 255, 255]]])


def test_transparent_colour_of_an_rgb_picture(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "a.png", transparency=tuple(RGB[1, 2].tolist()))
    expected = RGB.copy()
    expected[1, 2] = 255
    check(tmp_path / "a.png", expected)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_alpha_is_composited_on_white(tmp_path, suffix):
    alpha = np.full(GRAY.shape, 51, np.uint8)
    alpha[0] = 0
    alpha[1] = 255
    white = np.round(0.2 * RGB + 0.8 * 255)
    white[0], white[1] = 255, RGB[1]
    Image.fromarray(np.dstack([RGB, alpha])).save(tmp_path / f"rgba.{suffix}")
    Image.fromarray(np.dstack([GRAY, alpha]), "LA").save(tmp_path / f"la.{suffix}")
    assert np.abs(read_image(tmp_path / f"rgba.{suffix}") - white).max() <= 1
    assert np.abs(read_image(tmp_path / f"la.{suffix}") - gray3(white[..., 0])).max() <= 1


@pytest.mark.parametrize("widen", [256, 257])
def test_16_bit_gray_is_scaled_not_clipped(tmp_path, widen):
    wide = GRAY.astype(np.uint16) * widen
    Image.fromarray(wide).save(tmp_path / "a.png")
    Image.fromarray(wide).save(tmp_path / "a.tif")
    tifffile.imwrite(tmp_path / "big-endian.tif", wide, byteorder=">")
    cv2.imwrite(str(tmp_path / "a.pgm"), wide)
    for name in ("a.png", "a.tif", "big-endian.tif", "a.pgm"):
        check(tmp_path / name, gray3(GRAY))


@pytest.mark.parametrize("widen", [256, 257])
def test_16_bit_colour(tmp_path, widen):
    wide = RGB.astype(np.uint16) * widen
    cv2.imwrite(str(tmp_path / "a.png"), wide[..., ::-1])
    tifffile.imwrite(tmp_path / "a.tif", wide, photometric="rgb")
    tifffile.imwrite(tmp_path / "z.tif", wide, photometric="rgb", compression="zlib")
    for name in ("a.png", "a.tif", "z.tif"):
        check(tmp_path / name, RGB)
    alpha = np.full(GRAY.shape, 65535, np.uint16)
    cv2.imwrite(str(tmp_path / "alpha.png"), np.dstack([wide[..., ::-1], alpha]))
    check(tmp_path / "alpha.png", RGB)


def test_cmyk_jpeg(tmp_path):
    colours = np.full((16, 17, 3), (200, 60, 30), np.uint8)
    Image.fromarray(colours).convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    with Image.open(tmp_path / "a.jpg") as file:
        assert file.mode == "CMYK"
    assert np.abs(read_image(tmp_path / "a.jpg").astype(int) - colours).max() < 8


@pytest.mark.parametrize(
    "orientation, turn",
    [
        (1, lambda a: a),
        (2, np.fliplr),
        (3, lambda a: np.rot90(a, 2)),
        (6, lambda a: np.rot90(a, 3)),
    ],
)
def test_exif_orientation(tmp_path, orientation, turn):
    exif = Image.Exif()
    exif[0x0112] = orientation
    for array, expected in ((RGB, turn(RGB)), (GRAY, gray3(turn(GRAY)))):
        Image.fromarray(array).save(tmp_path / "a.png", exif=exif)
        check(tmp_path / "a.png", expected)


@pytest.mark.parametrize(
    "array", [RGB[..., 0].astype(np.float32) / 255, GRAY.astype(np.int32) << 20]
)
def test_values_without_a_defined_brightness_are_refused(tmp_path, array):
    Image.fromarray(array).save(tmp_path / "a.tif")
    with pytest.raises(
        DataError, match=r"a\.tif: .*no agreed brightness; save it with 8 or 16 bits"
    ):
        read_image(tmp_path / "a.tif")


def test_empty_file(tmp_path):
    (tmp_path / "a.png").touch()
    with pytest.raises(DataError, match=r"a\.png: the file is empty"):
        read_image(tmp_path / "a.png")


def test_not_a_picture(tmp_path):
    (tmp_path / "a.png").write_text("<html>404 Not Found</html>")
    with pytest.raises(DataError, match=r"a\.png: this is not a picture of a kind that is read"):
        read_image(tmp_path / "a.png")


def test_missing_file(tmp_path):
    with pytest.raises(DataError, match=r"a\.png: there is no such file"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif", "gif"])
def test_truncated_file(tmp_path, suffix):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / f"a.{suffix}")
    data = (tmp_path / f"a.{suffix}").read_bytes()
    (tmp_path / f"a.{suffix}").write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match=rf"a\.{suffix}: the picture cannot be decoded \(.*copy it"):
        read_image(tmp_path / f"a.{suffix}")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [9_500, 20_000])  # Pillow only warns about the first
def test_decompression_bomb(tmp_path, side):
    Image.new("1", (side, side)).save(tmp_path / "bomb.png")
    assert (tmp_path / "bomb.png").stat().st_size < 100_000
    with pytest.raises(DataError, match=r"bomb\.png: .*pixels.*make the picture smaller"):
        read_image(tmp_path / "bomb.png")


def test_fit_image_takes_the_centre_and_filters():
    image = np.zeros((64, 128, 3), np.uint8)
    image[:, 32:96:2] = 255  # the central square: stripes that a filter averages
    fitted = fit_image(image, 16)
    assert fitted.shape == (16, 16, 3)
    assert np.abs(fitted[:, 2:-2].astype(int) - 127).max() < 8
    assert fit_image(fitted, 16) is fitted


def test_list_images_is_recursive_sorted_and_skips_other_files(tmp_path):
    names = ["b/1.PNG", "a/2.jpg", "a/1.tif", "0.webp"]
    for name in [*names, "a/notes.txt", ".hidden.png", ".cache/x.png"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = [path.relative_to(tmp_path).as_posix() for path in list_images(tmp_path)]
    assert found == ["0.webp", "a/1.tif", "a/2.jpg", "b/1.PNG"]


def test_what_cannot_be_listed_is_named(tmp_path, monkeypatch):
    for name in ("a/1.png", "closed/2.png", "other/3.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    for name, target in (("a/dead.png", "x"), ("a/link", "../other"), ("a/loop.png", "loop.png")):
        (tmp_path / name).symlink_to(target)
    scandir, isfile = os.scandir, os.path.isfile

    def closed(path):
        if os.fspath(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    # As of a file in a folder that may be listed, but not entered.
    monkeypatch.setattr(os.path, "isfile", lambda p: isfile(p) and "other" not in os.fspath(p))
    found, others = list_files(tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in found] == ["a/1.png"]
    names = [path.relative_to(tmp_path).as_posix() for path in others]
    assert names == ["a/dead.png", "a/link", "a/loop.png", "closed", "other/3.png"]
    said = (
        "5 files are no pictures we read (5 of them a link to a folder, to be named itself, or not"
    )
    assert unread(others).startswith(said)


def test_list_images_of_a_missing_or_empty_folder(tmp_path):
    with pytest.raises(DataError, match="nowhere: there is no such folder"):
        list_images(tmp_path / "nowhere")
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DataError, match="there is no picture in this folder"):
        list_images(tmp_path)
