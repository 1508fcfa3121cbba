"""What the page does with a file; tests/tools/test_demo.py sees it in a browser."""

import re
import socket
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from skimage import data

from spynco_mm.apis import Colorizer
from spynco_mm.datasets.decoding import DataError

demo = pytest.importorskip("spynco_mm.apis.demo")


@pytest.fixture(scope="module")
def colorizer(tiny_checkpoint):
    return Colorizer(tiny_checkpoint, device="cpu", output="all", working_size=32)


@pytest.fixture
def drop(colorizer, tmp_path):
    """What happens when a file is dropped."""
    (tmp_path / "results").mkdir()
    page = demo.build_demo(colorizer, tmp_path / "results", 100_000)
    entries = [entry for entry in page.fns.values() if entry.name == "colorize"]
    assert len({entry.concurrency_id for entry in entries}) == 1  # one at a time

    def call(path, saturation=1, hints=()):
        return entries[0].fn(str(path), saturation, (str(path), list(hints)))

    (call.place,) = [entry.fn for entry in page.fns.values() if entry.name == "place"]
    return call


def test_results_carry_the_names_of_picture_and_output(drop, tmp_path):
    picture = Image.fromarray(data.camera()[:40, :60])
    for name, results in {
        "Käse, 2 of 3.jfif": [
            "Käse, 2 of 3.G1.jfif",
            "Käse, 2 of 3.G2.jfif",
            "Käse, 2 of 3.G3.jfif",
        ],
        "old.v1.tga": ["old.v1.G1.png", "old.v1.G2.png", "old.v1.G3.png"],
    }.items():
        picture.save(tmp_path / name)
        view, files, _ = drop(tmp_path / name)
        assert [file.rsplit("/", 1)[1] for file in files] == results
        assert "Note:" not in view
    translucent = np.dstack([data.camera()[:40, :60]] * 4)
    Image.fromarray(translucent).save(tmp_path / "x.png")
    (tmp_path / "x.png").rename(tmp_path / "x.jpe")
    assert drop(tmp_path / "x.jpe")[1][0].endswith("x.G1.png")
    picture.save(tmp_path / "pages.tif", save_all=True, append_images=[picture])
    assert "<p>Note: the first of 2 pages.</p>" in drop(tmp_path / "pages.tif")[0]


def test_every_failure_is_a_sentence(drop, colorizer, tmp_path, monkeypatch):
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(demo.gr.Error, match=r"^'text\.png: this is not a picture"):
        drop(tmp_path / "text.png")
    Image.fromarray(data.camera()).save(tmp_path / "large.png")
    with pytest.raises(demo.gr.Error, match=r"512×512 pixels are more than the 0\.1 million"):
        drop(tmp_path / "large.png")
    Image.fromarray(data.camera()[:40, :60]).save(tmp_path / "a.png")
    for error, sentence in (
        (RuntimeError("out of memory"), r"a.png cannot be colorized here \(RuntimeError: out of"),
        (DataError(f"{tmp_path}/a.png: it is odd; mend it."), "^'a.png: it is odd; mend it.'$"),
    ):

        def fail(pictures, hints, error=error):
            raise error

        monkeypatch.setattr(colorizer, "colorize_pictures", fail)
        with pytest.raises(demo.gr.Error, match=sentence):
            drop(tmp_path / "a.png")


def test_a_port_that_is_taken_advises_another(colorizer):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=rf"127\.0\.0\.1, port {port}: .* another with --port"):
            demo.launch_demo(colorizer, port=port)


def test_saturation_and_the_grey(drop, tmp_path):
    gray = data.camera()[:40, :60]
    Image.fromarray(gray).save(tmp_path / "man.png")
    strength = {}
    for saturation in (0, 2, 1):
        page, files, _ = drop(tmp_path / "man.png", saturation)
        result = np.asarray(Image.open(files[0]))
        error = abs(result @ np.array([0.299, 0.587, 0.114]) - gray).max()
        assert re.findall(r"G₁, \|H_t\(O\) − I\| ≤ (\d\.\d\d)<", page) == [f"{error:.2f}"]
        assert error < 0.3
        strength[saturation] = (result.max(2).astype(int) - result.min(2)).mean()
    assert strength[0] == 0 < 1.5 * strength[1] < strength[2]


def test_clicks_place_hints(drop, tmp_path):
    path = tmp_path / "large.png"
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    Image.fromarray(data.camera()).resize((60, 1000)).save(path, exif=exif)
    click = SimpleNamespace(index=[400, 24])  # on a picture reduced to 800×48
    hints = drop.place(str(path), ("another.png", [(1, 1, (0, 0, 0))]), "#2060c0", click)
    assert hints == (str(path), [(500, 30, (32, 96, 192))])
    hints = drop.place(str(path), hints, "rgba(192.4, 32, 32, 1)", click)
    assert hints[1] == [(500, 30, (192, 32, 32))]
    _, files, shown = drop(path, hints=hints[1])
    assert shown.size == (800, 48) and shown.getpixel((400, 24)) == (192, 32, 32)
    pixels = np.asarray(Image.open(files[0])).astype(float)
    red, green, blue = pixels[30, 500]
    assert red > green + 20 and abs(green - blue) < 3
    gray = np.rot90(np.asarray(Image.open(path)), -1)
    np.testing.assert_array_equal(np.round(pixels @ [0.299, 0.587, 0.114]), gray)
