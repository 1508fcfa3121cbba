import errno
import os
import re
import threading
from pathlib import Path
from urllib.parse import unquote_to_bytes

import numpy as np
import pytest
import torch
from mmagic.registry import MODELS
from picture_files import all_files
from PIL import Image
from skimage import data

from spynco_mm.apis import Colorizer, colorize_files, encode_picture, plan, planning, read_picture
from spynco_mm.apis import jobs as jobs_module
from spynco_mm.apis import sheet as sheet_module
from spynco_mm.apis.planning import left_out
from spynco_mm.apis.projection import to_gray
from spynco_mm.apis.sheet import ContactSheet
from spynco_mm.datasets.decoding import has_heif
from spynco_mm.datasets.images import DataError


@pytest.fixture(scope="module")
def colorizer(tiny_checkpoint):
    return Colorizer(tiny_checkpoint, device="cpu")


@pytest.fixture
def album(tmp_path):
    """A folder of real pictures: three sizes, one of them coloured, one in a folder below."""
    folder = tmp_path / "album"
    (folder / "sub").mkdir(parents=True)
    camera = data.camera()[::4, ::4]
    for name, picture in {
        "a.png": camera[:40],
        "b.jpg": camera[:40, ::-1],
        "c.png": camera[:50, :30],
        "sub/a.png": data.chelsea()[100:140, 100:160],
    }.items():
        Image.fromarray(picture).save(folder / name)
    return folder


def names(jobs, out):
    return {str(job.source.name): [str(f.relative_to(out)) for f in job.files] for job in jobs}


def run(colorizer, jobs, **kwargs):
    return colorize_files(colorizer, jobs, workers=2, progress=False, **kwargs)


# ------------------------------------------------------------------------------------- the plan


def test_folders_keep_their_structure(album, tmp_path):
    out = tmp_path / "out"
    targets = [job.targets[0].relative_to(out).as_posix() for job in plan([str(album)], out)]
    assert sorted(targets) == ["a.png", "b.jpg", "c.png", "sub/a.png"]


def test_files_and_patterns(album, tmp_path, monkeypatch):
    out = tmp_path / "out"
    jobs = plan([str(album / "sub/a.png"), str(album / "*.jpg")], out)
    assert names(jobs, out) == {"a.png": ["a.png"], "b.jpg": ["b.jpg"]}
    deep = plan([f"{album}/**/*.png"], out)
    assert [j.targets[0].relative_to(out).as_posix() for j in deep] == [
        "a.png",
        "c.png",
        "sub/a.png",
    ]
    # A name that looks like a pattern, and a file named twice.
    (album / "x[1].png").write_bytes((album / "a.png").read_bytes())
    assert len(plan([f"{album}/x[1].png", f"{album}/x[[]1*.png"], out)) == 1
    monkeypatch.chdir(album)
    assert names(plan(["*.jpg", "."], out)[:1], out) == {"b.jpg": ["b.jpg"]}


def test_names_of_results(album, tmp_path):
    out = tmp_path / "out"
    for name in ("d.gif", "e.BMP", "f.JPG", "no_suffix"):
        (album / name).touch()
    inputs = [str(album / n) for n in ("a.png", "d.gif", "e.BMP", "f.JPG", "no_suffix")]
    assert names(plan(inputs, out), out) == {
        "a.png": ["a.png"],
        "d.gif": ["d.png"],
        "e.BMP": ["e.png"],
        "f.JPG": ["f.JPG"],
        "no_suffix": ["no_suffix.png"],
    }
    assert names(plan(inputs[:1], out, [1, 2], ".webp", compare=True), out) == {
        "a.png": ["a.G1.webp", "a.G2.webp", "a.compare.webp"]
    }


def test_results_in_the_folder_are_no_input(album, colorizer):
    out = album / "out"
    assert len(run(colorizer, plan([str(album)], out)).done) == 4
    again = plan([str(album), f"{album}/**/*.png"], out)
    assert len(again) == 4
    assert len(run(colorizer, again).skipped) == 4
    with pytest.raises(DataError, match="all pictures in this folder are results"):
        plan([str(out / "sub")], out)


def test_results_need_a_folder(tmp_path):
    (tmp_path / "out").touch()
    with pytest.raises(DataError, match="out is no folder, so no results can be put in it"):
        plan([str(tmp_path)], tmp_path / "out")


def test_what_cannot_be_planned(album, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(DataError, match="is the folder of the results as well"):
        plan([str(album)], album)
    with pytest.raises(DataError, match=r"a\.png is a source and would be overwritten"):
        plan([str(album / "a.png")], album)
    with pytest.raises(DataError, match="no file fits this pattern"):
        plan([f"{album}/*.webp"], out)
    with pytest.raises(DataError, match="An empty name stands for no picture"):
        plan([""], out)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="there is no picture in this folder"):
        plan([str(tmp_path / "empty")], out)


def results(jobs, out):
    return {job.source.name: job.targets[0].relative_to(out).as_posix() for job in jobs}


def test_two_pictures_with_one_result_get_names_that_differ(tmp_path):
    out = tmp_path / "out"
    for name in (
        "a.bmp",
        "a.png",
        "b.jpg",
        "B.jpg",
        "c.gif",
        "c.tga",
        "c.gif.png",
        "d.compare.png",
    ):
        (tmp_path / name).touch()
    (tmp_path / "d.png").symlink_to(tmp_path / "d.compare.png")  # one picture, two names
    jobs = plan([str(tmp_path)], out)
    assert results(jobs, out) == {
        "B.jpg": "B.jpg",
        "a.bmp": "a.bmp.png",
        "a.png": "a.png",
        "b.jpg": "b-2.jpg",
        "c.gif": "c.png",
        "c.gif.png": "c.gif.png",
        "c.tga": "c.tga.png",
        "d.compare.png": "d.compare.png",
        "d.png": "d.png",
    }
    notes = {job.source.name: job.note for job in jobs if job.note}
    assert notes.keys() == {"a.bmp", "b.jpg", "c.tga"}
    assert notes["a.bmp"] == f"its result is a.bmp.png, since a.png is that of {tmp_path}/a.png"
    # Further files count as well, and the order of the arguments decides nothing.
    jobs = plan([str(tmp_path / "d.compare.png"), str(tmp_path / "d.png")], out, compare=True)
    assert len({file for job in jobs for file in job.files}) == 4
    # One picture by two ways to one place is one job.
    (tmp_path / "link").symlink_to(tmp_path)
    two = plan([str(tmp_path / "a.png"), str(tmp_path / "link" / "a.png")], out)
    assert [job.targets for job in two] == [(out / "a.png",)]


def test_many_pictures_of_one_name(tmp_path, monkeypatch):
    tried = []
    resolve = planning._key
    monkeypatch.setattr(planning, "_key", lambda file: tried.append(file) or resolve(file))
    sources = [str(tmp_path / str(i) / "page.png") for i in range(50)]
    jobs = plan([*sources, str(tmp_path / "7/../8/page.png")], tmp_path / "out")
    wanted = ["page.png", *(f"page-{i}.png" for i in range(2, 51))]
    assert [job.targets[0].name for job in jobs] == wanted
    assert len(tried) < 4 * len(jobs)


def test_what_is_no_picture_is_left_out(album, tmp_path):
    out = album / "out"
    for name in ("notes.txt", "film.mp4", "sub/IMG_1.HEIC", ".hidden", "out/sheet.html"):
        (album / name).parent.mkdir(exist_ok=True)
        (album / name).touch()
    (album / "loop.png").symlink_to("loop.png")
    left = {path.relative_to(album).as_posix() for path in left_out([str(album)], out)}
    assert left == {"film.mp4", "loop.png", "notes.txt"} | (
        set() if has_heif() else {"sub/IMG_1.HEIC"}
    )
    assert left_out([str(album / "a.png"), f"{album}/*.jpg"], out) == []


# --------------------------------------------------------------------------------------- the run


def test_results_are_the_colorizers(album, tmp_path, colorizer):
    out = tmp_path / "out"
    report = run(colorizer, plan([str(album)], out, compare=True))
    assert (len(report.done), report.skipped, report.failed) == (4, [], {})
    assert report.megapixels == pytest.approx((2 * 40 * 128 + 50 * 30 + 40 * 60) / 1e6)
    assert 0 < report.network_seconds < report.seconds
    assert report.megapixels_per_second == report.megapixels / report.seconds
    assert report.share_outside_network == 1 - report.network_seconds / report.seconds
    for job in report.done:
        result = np.asarray(Image.open(job.targets[0]))
        compared = np.asarray(Image.open(job.comparison))
        source = np.asarray(Image.open(job.source).convert("L")).astype(int)
        width = source.shape[1]
        assert compared.shape == (source.shape[0], 2 * width, 3)
        if job.source.suffix == ".png":
            want = np.asarray(colorizer(job.source))
            assert abs(result.astype(int) - want).max() <= 1  # another batch, another rounding
            np.testing.assert_array_equal(compared[:, width:], result)
            assert abs(compared[:, :width] - source[..., None]).max() <= 1
    # Neither the order nor the number of threads decides anything.
    other = plan([str(album)], tmp_path / "other", compare=True)
    colorize_files(colorizer, other[::-1], workers=1, progress=False)
    for file in (file for job in report.done for file in job.files if file.suffix == ".png"):
        again = np.asarray(Image.open(tmp_path / "other" / file.relative_to(out)))
        assert abs(again.astype(int) - np.asarray(Image.open(file))).max() <= 1


def test_what_is_there_is_left_alone(album, tmp_path, colorizer):
    out = tmp_path / "out"
    jobs = plan([str(album)], out)
    run(colorizer, jobs)
    (out / "c.png").write_text("mine")
    (out / "b.jpg").unlink()
    report = run(colorizer, jobs)
    assert [job.source.name for job in report.done] == ["b.jpg"]
    assert len(report.skipped) == 3
    assert (out / "c.png").read_text() == "mine"
    assert len(run(colorizer, jobs, overwrite=True).done) == 4
    assert Image.open(out / "c.png").mode == "RGB"
    # The comparison is missing, so the job is not done.
    assert len(run(colorizer, plan([str(album)], out, compare=True)).done) == 4


def test_one_bad_file_does_not_stop_the_rest(album, tmp_path, colorizer):
    out = tmp_path / "out"
    (album / "text.png").write_text("hello")
    whole = (album / "b.jpg").read_bytes()
    (album / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    alpha = np.dstack([data.camera()[:40, :40]] * 4)
    Image.fromarray(alpha).save(album / "alpha.png")
    (album / "alpha.png").rename(album / "alpha.jpg")
    (out / "c.png").mkdir(parents=True)  # a folder where a result should go
    (out / "c.png/x").touch()
    jobs = plan([str(album), str(album / "missing.png")], out)
    report = run(colorizer, jobs, overwrite=True)
    assert sorted(job.source.name for job in report.done) == ["a.png", "a.png", "b.jpg"]
    reasons = {job.source.name: reason for job, reason in report.failed.items()}
    assert list(report.failed) == [job for job in jobs if job in report.failed]
    patterns = {
        "text.png": "this is not a picture",
        "cut.jpg": "the picture cannot be decoded",
        "alpha.jpg": "JPEG cannot hold its transparency",
        "c.png": "Is a directory",
        "missing.png": "there is no such file",
    }
    assert reasons.keys() == patterns.keys()
    for name, pattern in patterns.items():
        assert re.search(pattern, reasons[name])
    # No half-written files.
    assert sorted(p.name for p in out.rglob("*") if p.is_file()) == ["a.png", "a.png", "b.jpg", "x"]


def test_a_name_too_long_for_its_results_does_not_stop_the_rest(album, tmp_path, colorizer):
    (album / "a.png").rename(album / f"{'x' * 250}.png")
    jobs = plan([str(album)], tmp_path / "out", compare=True)
    for _ in range(2):
        report = run(colorizer, jobs)
        (reason,) = report.failed.values()
        assert reason.startswith("[Errno 36] File name too long")
    assert len(report.skipped) == 3


def test_a_picture_the_network_cannot_take(album, tmp_path, colorizer, monkeypatch):
    def colorize_pictures(pictures, hints):
        # Two that go together can be taken one by one.
        if len(pictures) > 1 or (pictures and pictures[0].pixels.shape == (50, 30)):
            raise RuntimeError("out of memory\nTried to allocate")
        return Colorizer.colorize_pictures(colorizer, pictures)

    monkeypatch.setattr(colorizer, "colorize_pictures", colorize_pictures)
    report = run(colorizer, plan([str(album)], tmp_path / "out"))
    assert len(report.done) == 3
    assert list(report.failed.values()) == ["RuntimeError: out of memory"]


def test_a_picture_that_cannot_be_tiled_fails_alone(album, tmp_path):
    generator = dict(type="SpyncoGenerator", base_channels=2, num_blocks=1)
    generator.update(norm_cfg=dict(type="GN", num_groups=2))
    model = dict(type="SpyncoGAN", generator=generator)
    (tmp_path / "config.py").write_text(f"model = {model}")
    torch.save(dict(state_dict=MODELS.build(model).state_dict()), tmp_path / "group_norm.pth")
    colorizer = Colorizer(tmp_path / "config.py", tmp_path / "group_norm.pth", device="cpu")
    colorizer.pass_pixels = 60 * 60  # all but two fit
    report = run(colorizer, plan([str(album)], tmp_path / "out"))
    assert sorted(job.source.name for job in report.failed) == ["a.png", "b.jpg"]
    assert len(report.done) == 2
    assert (
        "Only instance norm and batch norm can be tiled" in report.failed[next(iter(report.failed))]
    )


def test_a_full_disk_ends_the_run(small_disk, album, colorizer, monkeypatch):
    noise = np.random.default_rng(0).integers(0, 256, (60, 90), np.uint8)
    for i in range(40):
        Image.fromarray(noise[:, i:]).save(album / f"n{i:02}.png")
    read = []
    monkeypatch.setattr(
        jobs_module, "read_picture", lambda path: read.append(path) or read_picture(path)
    )
    monkeypatch.setattr(jobs_module, "WAITING_PIXELS", 12_000)
    jobs = plan([str(album)], small_disk / "out")
    report = run(colorizer, jobs)
    assert report.stopped == "No space left on device"
    assert 2 < len(report.done) < 12
    assert 1 <= len(report.failed) < 6
    assert len(read) < 20  # and not 44
    # What is said to be done is there, whole, and nothing else.
    files = {path for path in (small_disk / "out").rglob("*") if path.is_file()}
    assert files == {job.targets[0] for job in report.done}
    assert all(read_picture(path).is_color for path in files)
    monkeypatch.undo()
    for path in files:
        path.unlink()
    again = run(colorizer, report.done)
    assert (len(again.done), again.stopped) == (len(report.done), "")


def test_a_disk_that_nobody_may_write_to_ends_the_run(album, tmp_path, colorizer, monkeypatch):
    def write(path, content):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(jobs_module, "write_atomically", write)
    report = run(colorizer, plan([str(album)], tmp_path / "out"))
    assert report.stopped == "Read-only file system"
    assert len(report.failed) >= 1 > len(report.done)


def test_a_comparison_too_wide_for_its_format_is_reduced(tmp_path, colorizer):
    wide = np.ascontiguousarray(np.tile(data.camera()[:16, :320], (1, 30)))  # 9600
    Image.fromarray(wide).save(tmp_path / "a.webp", lossless=True)
    report = run(colorizer, plan([str(tmp_path)], tmp_path / "out", compare=True))
    assert not report.failed
    assert list(report.notes.values()) == ["the comparison is reduced to 16383×14"]
    assert Image.open(tmp_path / "out/a.webp").size == (9600, 16)
    assert Image.open(tmp_path / "out/a.compare.webp").size == (16383, 14)


def test_every_kind_of_file_comes_out_right(tmp_path, colorizer):
    """The grey of a result is the picture that was meant, whatever way it was stored."""
    (tmp_path / "in").mkdir()
    meant = {path: shown for path, shown, alpha in all_files(tmp_path / "in")}
    report = run(colorizer, plan([str(tmp_path / "in")], tmp_path / "out"))
    assert not report.failed
    assert len(report.done) == len(meant)
    for job in report.done:
        if "assocalpha" in job.source.name:  # where it is transparent, the colour is anything
            continue
        shown, result = meant[job.source], read_picture(job.targets[0]).pixels
        assert result.dtype == shown.dtype, job.source.name
        scale = np.iinfo(shown.dtype).max / 255
        gray, colored = (to_gray(p, colorizer.translation) for p in (shown, result))
        rounded = 0.5 + 1.0 * scale / 257  # and the first of CMYK and 12 bits
        assert abs(gray - colored).max() <= rounded, job.source.name


def test_a_long_line_takes_no_gigabytes(colorizer, monkeypatch):
    line = np.tile(data.camera()[0], 40)[None]  # 1×20480, padded 16 times
    sizes = []
    hook = colorizer.generator.register_forward_pre_hook(lambda m, x: sizes.append(x[0].shape))
    try:
        for turned in (line, line.T):
            result = colorizer(np.ascontiguousarray(turned))
            gray = result @ np.array([0.299, 0.587, 0.114])
            assert abs(gray - turned).max() <= 0.6
        # As the network makes it, it is that of the copy, enlarged.
        monkeypatch.setattr(colorizer, "projection", None)
        raw = colorizer(line)
    finally:
        hook.remove()
    assert [tuple(size[2:]) for size in sizes] == [(16, 8192), (8192, 16), (16, 8192)]
    assert 2 < abs(raw @ np.array([0.299, 0.587, 0.114]) - line).max() < 50


def test_keep_color_refuses_colour(album, tmp_path, colorizer):
    report = run(colorizer, plan([str(album)], tmp_path / "out"), keep_color=True)
    assert len(report.done) == 3
    (job,) = report.failed
    assert job.source == album / "sub/a.png"
    assert "in colour already" in report.failed[job]


def test_pictures_of_one_size_go_together(tmp_path, tiny_checkpoint):
    for i in range(5):
        Image.fromarray(data.camera()[i : i + 24, :32]).save(tmp_path / f"{i}.png")
    Image.fromarray(data.camera()[:32, :24]).save(tmp_path / "other.png")
    colorizer = Colorizer(tiny_checkpoint, device="cpu", batch_size=4)
    shapes = []
    colorizer.generator.register_forward_hook(lambda m, x, y: shapes.append(tuple(x[0].shape)))
    assert len(run(colorizer, plan([str(tmp_path)], tmp_path / "out")).done) == 6
    assert shapes == [(4, 3, 24, 32), (1, 3, 24, 32), (1, 3, 32, 24)]


def test_reading_and_writing_go_on_while_the_network_computes(tmp_path, colorizer, monkeypatch):
    """Each pass ends only after what is beside it, which begins only after the pass."""
    count = 8
    for i in range(count):
        Image.fromarray(data.camera()[:20, : 20 + i]).save(tmp_path / f"{i}.png")
    started, read, written = ([threading.Event() for _ in range(count)] for _ in range(3))
    read[0].set()

    def wait(event):
        assert event.wait(60), "one after the other"

    def reading(path):
        number = int(path.stem)
        if number:
            wait(started[number - 1])
        picture = read_picture(path)
        read[number].set()
        return picture

    def writing(picture, suffix):
        number = picture.pixels.shape[1] - 20
        if number + 1 < count:
            wait(started[number + 1])
        content = encode_picture(picture, suffix)
        written[number].set()
        return content

    def computing(pictures, hints):
        number = pictures[0].pixels.shape[1] - 20
        started[number].set()
        for event in (*read[number + 1 :][:1], *written[:number][-1:]):
            wait(event)
        return Colorizer.colorize_pictures(colorizer, pictures)

    monkeypatch.setattr(jobs_module, "read_picture", reading)
    monkeypatch.setattr(jobs_module, "encode_picture", writing)
    monkeypatch.setattr(colorizer, "colorize_pictures", computing)
    monkeypatch.setattr(jobs_module, "WAITING_PIXELS", 1200)  # two pictures
    jobs = plan([str(tmp_path / f"{i}.png") for i in range(count)], tmp_path / "out")
    report = run(colorizer, jobs)
    assert (len(report.done), report.failed) == (count, {})


def test_metadata_and_depth_go_along(tmp_path, colorizer):
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "Zeiss"
    deep = data.camera()[:32, :48].astype(np.uint16) * 200 + 13
    Image.fromarray(deep).save(tmp_path / "deep.png", exif=exif)
    alpha = np.dstack([data.camera()[:32, :48]] * 2)
    Image.fromarray(alpha).save(tmp_path / "alpha.png")
    pages = Image.fromarray(data.camera()[:32, :32])
    pages.save(tmp_path / "pages.tif", save_all=True, append_images=[pages])
    out = tmp_path / "out"
    report = run(colorizer, plan([str(tmp_path)], out))
    assert not report.failed
    assert {j.source.name: n for j, n in report.notes.items()} == {
        "pages.tif": "the first of 2 pages"
    }
    result = jobs_module.read_picture(out / "deep.png")
    assert result.pixels.dtype == np.uint16
    assert result.pixels.shape == (48, 32, 3)  # upright
    gray = result.pixels @ np.array([0.299, 0.587, 0.114])
    assert abs(gray - np.rot90(deep, -1)).max() <= 0.6
    assert dict(Image.open(out / "deep.png").getexif()) == {0x010F: "Zeiss"}
    result = Image.open(out / "alpha.png")
    assert result.mode == "RGBA"
    np.testing.assert_array_equal(np.asarray(result)[..., 3], alpha[..., 1])


# -------------------------------------------------------------------------------- contact sheet


@pytest.mark.parametrize("suffix", [".png", ".html"])
def test_contact_sheet(album, tmp_path, colorizer, suffix):
    (album / "text<b>.png").write_text("hello")
    out = tmp_path / "out"
    jobs = plan([str(album)], out)
    run(colorizer, jobs[:2])  # what is there already is on the sheet all the same
    sheet = ContactSheet(tmp_path / f"sheet{suffix}")
    report = run(colorizer, jobs, show=sheet.add)
    assert len(report.skipped) == 2
    sheet.save(jobs, report)
    if suffix == ".html":
        page = (tmp_path / "sheet.html").read_text()
        assert page.count('<img src="data:image/jpeg;base64,') == 4
        for job in jobs:
            assert page.count(f'href="{job.targets[0].relative_to(tmp_path).as_posix()}"') == (
                job not in report.failed
            )
        assert "text&lt;b&gt;.png<br>this is not a picture" in page
        assert "4 pictures, 1 failed." in page
    else:
        pixels = np.asarray(Image.open(tmp_path / "sheet.png")).astype(int)
        colored = (pixels.max(2) - pixels.min(2) > 8).mean()
        assert 0.01 < colored < 0.5
        assert pixels.shape[0] > 2 * 160  # two rows


def test_names_and_reasons_are_shown_whole(album, tmp_path, colorizer):
    """Names that are no text, with line breaks, in scripts that the font lacks."""
    picture = (album / "a.png").read_bytes()
    raw = os.fsdecode(b"caf\xe9.png")
    names = [raw, "two\nlines.png", "写真.png", "Ελλάδα.png", "a b#?.png"]
    for name in names:
        (album / name).write_bytes(picture)
    Image.fromarray(data.camera()[:40, :60]).save(album / "scan.tif")
    (album / f"{'long ' * 30}.png").write_text("no picture")
    out = tmp_path / "out"
    jobs = plan([str(album)], out)
    sheets = [ContactSheet(tmp_path / f"sheet{suffix}") for suffix in (".html", ".png")]
    for sheet in sheets:
        sheet.check(jobs)
    report = run(colorizer, jobs, show=lambda *shown: [sheet.add(*shown) for sheet in sheets])
    assert len(report.failed) == 1
    for sheet in sheets:
        sheet.save(jobs, report)
    page = (tmp_path / "sheet.html").read_text(encoding="utf-8")
    for name in (r"caf\udce9.png", r"two\nlines.png", "写真.png", "Ελλάδα.png", "a b#?.png"):
        assert f"{name}, |H_t(O) − I| ≤ 0." in page
    links = [os.fsencode(unquote_to_bytes(link)) for link in re.findall('href="([^"]*)"', page)]
    for name in names:
        assert b"out/" + os.fsencode(name) in links
    assert b"out/scan.tif" not in links  # which a browser would not show
    reason = (
        "this is not a picture of a kind that is read, or is damaged; save it as PNG, or remove it."
    )
    lines = sheet_module._lines(f"{'long ' * 30}.png: {reason}", 320)
    assert len(lines) > 3
    assert " ".join(lines).endswith(reason)
    assert sheet_module._lines("写真 Ελλάδα\n" + raw, 900) == [
        r"\u5199\u771f Ελλάδα\ncaf\udce9.png"
    ]
    assert sheet_module._lines("x" * 100, 320)[0] != "x" * 100
    plain = ContactSheet(tmp_path / "plain.png")
    some = [job for job in jobs if job.source.name in ("a.png", "b.jpg", "c.png")]
    plain._thumbnails = sheets[1]._thumbnails
    plain.save(some, report)
    long = [job for job in jobs if job.source.name.startswith("long")]
    ContactSheet(tmp_path / "long.png").save(long, report)
    heights = [Image.open(tmp_path / name).height for name in ("plain.png", "long.png")]
    assert heights[1] >= heights[0] + 2 * sheet_module.LINE


def test_contact_sheets_that_cannot_be(tmp_path):
    with pytest.raises(ValueError, match=r"is a \.png or \.html file, not 'sheet\.jpg'"):
        ContactSheet(Path("sheet.jpg"))
    with pytest.raises(ValueError, match="of 1001 pictures is too large for a PNG"):
        ContactSheet(tmp_path / "sheet.png").check([None] * 1001)
    sheet = ContactSheet(tmp_path / "sheet.html")
    sheet.add(None, np.zeros((800, 2400, 3), np.uint8))
    assert len(sheet._thumbnails[None]) < 10_000  # and not its pixels, of which there may be many
    (tmp_path / "file").touch()
    (tmp_path / "folder.html").mkdir()
    for name, reason in (("file/sheet.html", "Not a directory"), ("folder.html", "Is a directory")):
        with pytest.raises(ValueError, match=rf"cannot be written \({reason}\); name another file"):
            ContactSheet(tmp_path / name).check([])
