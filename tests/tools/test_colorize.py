import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

from spynco_mm.models import HandcraftedTranslation

TOOL = Path(__file__).parents[2] / "tools" / "colorize.py"


@pytest.fixture
def run(monkeypatch, capsys, tiny_checkpoint):
    """Run the tool in this process, for speed; gives its exit status and what it printed."""

    def call(*args):
        monkeypatch.setattr(sys, "argv", [str(TOOL), str(tiny_checkpoint), *map(str, args)])
        with pytest.raises(SystemExit) as info:
            runpy.run_path(str(TOOL), run_name="__main__")
        printed = capsys.readouterr()
        return info.value.code, printed.out, printed.err

    return call


@pytest.fixture
def album(tmp_path):
    folder = tmp_path / "album"
    (folder / "sub").mkdir(parents=True)
    Image.fromarray(data.camera()[:40, :60]).save(folder / "a.png")
    Image.fromarray(data.chelsea()[:50, :30]).save(folder / "sub/b.jpg")
    return folder


def test_a_folder(run, album, tmp_path):
    out = tmp_path / "out"
    status, printed, errors = run(
        album, "--out", out, "--device", "cpu", "--compare", "--sheet", out / "sheet.html"
    )
    assert status == 0
    assert "2 done, 0 already there, 0 failed: 0.00 megapixels in" in printed
    assert "megapixels/s" in printed
    assert "of the time outside the network" in printed
    assert "2/2" in errors  # the progress bar
    files = sorted(p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file())
    names = ["a.compare.png", "a.png", "sheet.html", "sub/b.compare.jpg", "sub/b.jpg"]
    assert files == names
    (out / "result").mkdir()  # as a sub-folder of somebody's album may be called
    status, printed, _ = run(album, "--out", out)
    assert status == 0
    assert "0 done, 2 already there" in printed
    (out / "a.png").write_text("broken")
    status, _, errors = run(album, "--out", out, "--sheet", out / "sheet.html")
    assert status == 1
    said = f"FAILED {album}/a.png: its picture for the sheet: {out}/a.png: this is not a picture"
    assert said in errors


def test_options_reach_the_colorizer(run, album, tmp_path):
    out = tmp_path / "out"
    status, *_ = run(
        album / "a.png", "--out", out, "--output", "all", "--working-size", 32, "--format", "tif",
        "--memory", "0.5", "--workers", 1, "--batch-size", 1,
    )  # fmt: skip
    assert status == 0
    assert sorted(p.name for p in out.iterdir()) == ["a.G1.tif", "a.G2.tif", "a.G3.tif"]
    gray = np.asarray(Image.open(out / "a.G1.tif")) @ np.array([0.299, 0.587, 0.114])
    assert abs(gray - data.camera()[:40, :60]).max() <= 0.51


def test_the_grey_is_kept_and_reported(run, album, tmp_path):
    gray = data.camera()[:40, :60]

    def off(file):
        return abs(np.asarray(Image.open(file)) @ np.array([0.299, 0.587, 0.114]) - gray).max()

    for options in ([], ["--saturation", 2]):
        out = tmp_path / f"out{len(options)}"
        _, printed, _ = run(album, "--out", out, *options)
        assert off(out / "a.png") < 0.3
        assert f"{out}/a.png: max |H_t(O) − I| = {off(out / 'a.png'):.3f}" in printed
        assert f"{out}/sub/b.jpg: max |H_t(O) − I| = " in printed  # JPEG's own losses
    assert chroma(tmp_path / "out2/a.png") > 1.5 * chroma(tmp_path / "out0/a.png") > 3


def chroma(file):
    pixels = np.asarray(Image.open(file)).astype(int)
    return (pixels.max(2) - pixels.min(2)).mean()


def test_what_is_known_of_a_picture(run, album, tmp_path):
    """Its film, hints and strokes; and how sure the outputs are of the rest."""
    strokes = np.zeros((40, 60, 4), np.uint8)
    strokes[5:8, 5:20] = [90, 60, 200, 255]
    Image.fromarray(strokes).save(tmp_path / "strokes.png")
    out = tmp_path / "out"
    status, printed, errors = run(
        album / "a.png", "--out", out, "--film", "orthochromatic", "--confidence", "--compare",
        "--hint", "30,20,#c02020", "--hints", tmp_path / "strokes.png",
    )  # fmt: skip
    assert status == 0, errors
    names = ["a.compare.png", "a.confidence.png", "a.png"]
    assert sorted(p.name for p in out.iterdir()) == names
    assert Image.open(out / "a.compare.png").width == 120
    weights = HandcraftedTranslation("orthochromatic").weight[0].numpy()
    result = np.asarray(Image.open(out / "a.png")).astype(float)
    gray = data.camera()[:40, :60]
    np.testing.assert_array_equal(np.round(result @ weights), gray)
    for y, x, color in ((20, 30, [192, 32, 32]), (6, 9, [90, 60, 200])):
        chroma, wanted = result[y, x] - result[y, x] @ weights, color - color @ weights
        assert chroma @ wanted > 0.99 * np.linalg.norm(chroma) * np.linalg.norm(wanted) > 10
    doubt = np.asarray(Image.open(out / "a.confidence.png")).max(2) / 5
    (said,) = re.findall(r"a.confidence.png: the outputs differ by (\d+\.\d\d) ΔE", printed)
    assert float(said) == pytest.approx(doubt.mean(), abs=0.15)
    assert "the picture's grey was kept where hints have another, by up to" in printed
    for options, message in (
        (["--hint", "1,2"], "a hint is x,y,#rrggbb"),
        (["--hint", "1,2,#ffffff", "--raw"], "--raw leaves out the projection, which hints need"),
        (["--confidence", "--output", 2], "--confidence goes with --output 1 or all"),
    ):
        status, _, errors = run(album / "a.png", "--out", out, *options)
        assert status and message in str(status) + errors
    (tmp_path / "a.png").write_bytes((tmp_path / "strokes.png").read_bytes())
    for place in (["--out", tmp_path], ["--out", out, "--sheet", tmp_path / "a.png"]):
        status, _, errors = run(album / "a.png", "--hints", tmp_path / "a.png", *place)
        assert status and re.search("a source and would be over|name of a source or a res", errors)
    status, _, errors = run(album, "--out", out, "--hint", "1,2,#ffffff")
    assert status and "belong to one picture, but there are 2" in str(status) + errors


def test_another_programs_work(monkeypatch, capsys, album, tmp_path):
    Image.fromarray(data.chelsea()[:80, :120]).save(tmp_path / "theirs.png")

    def call(*args):
        monkeypatch.setattr(sys, "argv", [str(TOOL), "--project", *map(str, args)])
        with pytest.raises(SystemExit) as info:
            runpy.run_path(str(TOOL), run_name="__main__")
        return info.value.code, capsys.readouterr()

    pictures = [album / "a.png", tmp_path / "theirs.png"]
    status, printed = call(*pictures, "--out", tmp_path / "out", "--compare")
    assert status == 0
    result = np.asarray(Image.open(tmp_path / "out/a.png"))
    grey = result @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_array_equal(np.round(grey), data.camera()[:40, :60])
    assert chroma(tmp_path / "out/a.png") > 10
    assert f"max |H_t(O) − I| = {abs(grey - data.camera()[:40, :60]).max():.3f}" in printed.out

    theirs = (tmp_path / "theirs.png").rename(tmp_path / "a.png")
    status, printed = call(pictures[0], theirs, "--out", tmp_path)
    assert f"{theirs} is a source and would be overwritten" in f"{status}{printed.err}"

    for args, message in (
        ([*pictures, "--working-size", 9], "--project runs no network, so --working-size has no"),
        ([*pictures, "--raw"], "--project runs no network, so --raw has no effect"),
        ([*pictures, pictures[0]], "--project takes two picture files"),
        ([album, pictures[1]], "--project takes two picture files"),
    ):
        status, printed = call(*args, "--out", tmp_path / "other")
        assert message in f"{status}{printed.err}"


def test_failures_are_listed_and_make_the_status_1(run, album, tmp_path):
    (album / "text.png").write_text("hello")
    status, printed, errors = run(album, "--out", tmp_path / "out", "--keep-color")
    assert status == 1
    assert "1 done, 0 already there, 2 failed" in printed
    last = errors.strip().splitlines()[-2:]
    assert last == [
        f"FAILED {album}/sub/b.jpg: it is in colour already; without --keep-color it is turned "
        "grey first.",
        f"FAILED {album}/text.png: this is not a picture of a kind that is read, or is damaged; "
        "save it as PNG, or remove it.",
    ]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--output", "4"], "has the outputs 1 to 3"),
        (["--output", "first"], "--output is a number or 'all', not 'first'"),
        (["--workers", "0"], "--workers must be at least 1"),
        (["--memory", "-1"], "--memory must be positive"),
        (["--raw", "--saturation", "2"], "raw=True leaves out the projection"),
        (["--working-size", "0"], "working_size must be at least 1"),
        (["--sheet", "sheet.jpg"], "A contact sheet is a .png or .html file"),
        (["--config", "missing.py"], "missing.py"),
        (["nothing/*.png"], "no file fits this pattern"),
    ],
)
def test_mistakes_are_one_sentence(run, album, tmp_path, args, message):
    status, _, errors = run(album, *args, "--out", tmp_path / "out")
    assert status == 1
    assert message in errors
    assert "Traceback" not in errors
    assert not (tmp_path / "out").exists()


def test_a_sheet_may_not_replace_a_picture(run, album, tmp_path):
    out = tmp_path / "out"
    for name in (out / "a.png", album / "a.png"):
        status, _, errors = run(album, "--out", out, "--sheet", name)
        assert status == 1
        assert "has the name of a source or a result; change it" in errors


def test_a_sheet_may_not_become_a_picture(run, album, tmp_path):
    out = tmp_path / "out"
    status, _, errors = run(album, "--out", out, "--sheet", album / "sheet.png")
    assert status == 1 and "lies among the pictures, and would be one of them" in errors
    out = album / "out"
    for _ in range(2):
        assert run(album, "--out", out, "--sheet", out / "sheet.png", "--device", "cpu")[0] == 0


def test_what_cannot_be_written_is_known_at_once(run, album, tmp_path):
    (tmp_path / "file").touch()
    for args, message in (
        (["--out", tmp_path / "file" / "out"], "file/out cannot be written to (Not a directory)"),
        (
            ["--out", tmp_path / "out", "--sheet", tmp_path / "file/x.png"],
            "x.png cannot be written",
        ),
    ):
        status, printed, errors = run(album, *args)
        assert status == 1
        assert message in errors
        assert "Traceback" not in errors
        assert "done" not in printed
    assert not list((tmp_path / "out").iterdir())


def test_a_full_disk_ends_the_run_with_what_is_done(run, small_disk, album):
    noise = np.random.default_rng(0).integers(0, 256, (150, 200), np.uint8)
    Image.fromarray(noise).save(album / "large.png")  # its result takes more than there is
    status, printed, errors = run(album, "--out", small_disk / "out", "--workers", 1)
    assert status == 1
    done = [line.removeprefix("done: ") for line in printed.splitlines() if "done: " in line]
    assert f"{album}/large.png" not in done
    assert len(done) == len([p for p in (small_disk / "out").rglob("*") if p.is_file()])
    last = errors.strip().splitlines()[-2:]
    assert last[0].startswith(f"FAILED {album}/large.png: [Errno 28] No space left on device")
    assert last[1].startswith("STOPPED (No space left on device): ")


def test_all_that_happened_is_said(run, album, tmp_path):
    (album / "notes.txt").write_text("hello")
    picture = Image.fromarray(data.camera()[:40, :60])
    picture.save(album / "a.bmp")
    for name in ("x.jpg", "y.jpg"):
        picture.save(album / name, comment=b"hello")
    (album / os.fsdecode(b"caf\xe9\n.png")).write_bytes((album / "a.png").read_bytes())
    status, printed, _ = run(album, "--out", tmp_path / "out", "--format", "webp")
    assert status == 0
    lines = printed.splitlines()
    assert f"1 file is no picture we read: {album}/notes.txt" in lines
    # What is to be said of several is said once.
    said = "without its comment, for which WEBP has no place"
    assert [line for line in lines if said in line] == [f"{album}/x.jpg and 1 more: {said}"]
    assert any("its result is a-2.webp" in line or "a.png.webp" in line for line in lines)
    assert (tmp_path / "out" / os.fsdecode(b"caf\xe9\n.webp")).exists()


MEASURED = """
import os, resource, runpy, sys
sys.path.insert(0, os.path.dirname(sys.argv[1]))
import spynco_mm.apis
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    print("grown by:", (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20)
"""


def test_a_large_picture_in_little_memory(tiny_checkpoint, tmp_path):
    """As a user would run it. Untiled, the last features alone would take 0.4 GiB, thrice."""
    picture = Image.fromarray(data.camera()).resize((3000, 2000))
    picture.save(tmp_path / "large.png", compress_level=1)
    command = [sys.executable, "-c", MEASURED, TOOL, tiny_checkpoint, tmp_path / "large.png"]
    process = subprocess.run(
        [*map(str, command), "--out", str(tmp_path / "out"), "--memory", "0.1", "--format", "jpg"],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert process.returncode == 0, process.stderr
    assert "1 done, 0 already there, 0 failed: 6.00 megapixels" in process.stdout
    assert float(process.stdout.split("grown by:")[1]) < 0.6
    with Image.open(tmp_path / "out" / "large.jpg") as result:
        assert result.size == (3000, 2000)
        small = np.asarray(result.resize((150, 100), Image.Resampling.BOX))
    gray = np.asarray(picture.resize((150, 100), Image.Resampling.BOX))
    assert abs(small @ np.array([0.299, 0.587, 0.114]) - gray).max() < 2
