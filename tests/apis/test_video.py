import json
import os
import runpy
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from interruptions import before_file_operations
from PIL import Image
from skimage import data
from torch import nn

from spynco_mm.apis import Colorizer, colorize_video, video
from spynco_mm.apis.film import Encoder, read_frames
from spynco_mm.apis.shots import Smoother, shared_norms
from spynco_mm.datasets.images import DataError
from spynco_mm.models import HandcraftedTranslation

av = pytest.importorskip("av")  # which tools/run_tests.sh installs
TOOL = Path(__file__).parents[2] / "tools" / "colorize.py"
BT601 = np.array([0.299, 0.587, 0.114])
FRAMES = 26
#: Of a shot; the rest is another.
FIRST = 14


def scene(photo, number):
    """A camera that pans and zooms over a photograph, with the noise of film: 32×32 grey bytes."""
    box = (20 + number, 10 + number / 2, 180 + 2 * number, 170 + 1.5 * number)
    image = Image.fromarray(photo).convert("L").resize((32, 32), Image.Resampling.LANCZOS, box)
    noise = np.random.default_rng(number).normal(0, 0.7, (32, 32))
    return np.clip(np.round(np.asarray(image) + noise), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """Two shots of variable frame rate, and a sound that begins before them."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    with av.open(str(path), "w") as out:
        pictures = out.add_stream("libx264", rate=25, options={"crf": "10"})
        pictures.width = pictures.height = 32
        pictures.pix_fmt = "yuv420p"
        pictures.codec_context.time_base = Fraction(1, 12800)
        sound, stamp = out.add_stream("aac", rate=8000), 0
        for i in range(FRAMES):
            gray = scene(data.chelsea() if i < FIRST else data.coffee(), i)
            frame = av.VideoFrame.from_ndarray(np.stack([gray] * 3, -1), format="rgb24")
            frame.pts, frame.time_base = stamp, Fraction(1, 12800)
            stamp += 700 if i % 3 else 512
            out.mux(pictures.encode(frame))
        out.mux(pictures.encode())
        for start in range(0, 8192, 1024):
            wave = np.sin(np.arange(start, start + 1024, dtype=np.float32) / 5)[None]
            frame = av.AudioFrame.from_ndarray(wave, "fltp", "mono")
            frame.sample_rate, frame.pts = 8000, start
            out.mux(sound.encode(frame))
        out.mux(sound.encode())
    return path


def packets(path):
    with av.open(str(path)) as film:
        return [(bytes(p), p.pts * p.time_base) for p in film.demux(audio=0) if p.size]


def stamps(path):
    with av.open(str(path)) as film:
        return [frame.time for frame in film.decode(video=0)]


def pixels(path):
    return np.stack([frame for _, frame in read_frames(path)])


@pytest.fixture
def run(tiny_checkpoint, monkeypatch, capsys):
    """Run the tool in this process; gives its exit status and what it printed."""

    def call(*args):
        args = [TOOL, tiny_checkpoint, *args, "--device", "cpu"]
        monkeypatch.setattr(sys, "argv", list(map(str, args)))
        with pytest.raises(SystemExit) as info:
            runpy.run_path(str(TOOL), run_name="__main__")
        return info.value.code, *capsys.readouterr()

    return call


def test_a_film(film, run, tmp_path):
    out = tmp_path / "color.mp4"
    status, printed, progress = run(film, "--out", out)
    assert status == 0
    assert f"{FRAMES}/{FRAMES}" in progress
    assert f"cuts: [0, {FIRST}]" in printed
    assert sorted(os.listdir(tmp_path)) == ["color.mp4", "color.mp4.json"]
    assert packets(out) == packets(film)
    assert stamps(out) == stamps(film)
    report = json.loads((tmp_path / "color.mp4.json").read_text())
    assert report["frames"] == FRAMES
    assert 0 < report["flicker"] < 0.75 * report["flicker_before"]
    assert report["grey_error"] < 0.294
    result, gray = pixels(out), pixels(film)
    assert np.abs(result @ BT601 - gray[..., 0]).mean() == pytest.approx(
        report["codec_error"], abs=0.5
    )
    assert (result.astype(int).max(3) - result.min(3)).mean() > 3
    status, again, _ = run(film, "--out", out)
    assert (status, again) == (0, f"{out} is there already:\n{printed}")


class Killed(Exception):
    pass


def test_it_goes_on_after_a_kill_at_any_moment(film, colorize, tmp_path, monkeypatch):
    monkeypatch.setattr(video, "PART", 8)
    whole = colorize_video(colorize, film, tmp_path / "whole.mkv", codec="ffv1", progress=False)
    assert whole["codec_error_max"] == pytest.approx(whole["grey_error"], abs=1e-3)
    assert whole["grey_error"] < 0.294
    events, add = 0, Encoder.add

    def look(*args):
        nonlocal events
        events += 1
        if events % 17 == 0:
            raise Killed

    def watched(*args):
        look()
        add(*args)

    before_file_operations(look, monkeypatch.setattr)
    monkeypatch.setattr(Encoder, "add", watched)
    target, kills, report = tmp_path / "killed.mkv", 0, None
    while report is None and kills < 20:
        try:
            report = colorize_video(colorize, film, target, codec="ffv1", progress=False)
        except Killed:
            kills += 1
    assert kills >= 2
    assert report == whole
    assert np.array_equal(pixels(target), pixels(tmp_path / "whole.mkv"))
    assert not (tmp_path / "killed.mkv.parts").exists()
    assert colorize_video(colorize, film, target, codec="ffv1") == whole  # already there
    with pytest.raises(
        DataError, match=r"killed.mkv is there already, and of another film, network"
    ):
        colorize_video(colorize, film, target, codec="ffv1", smoothing=0.5)


def test_a_rotated_film(film, colorize, tmp_path):
    content = bytearray(film.read_bytes())
    at = content.index(b"tkhd") + 44
    turned = np.array([[0, 1 << 16, 0], [-1 << 16, 0, 0], [0, 0, 1 << 30]], ">i4").tobytes()
    content[at : at + 36] = turned
    source = tmp_path / "turned.mp4"
    source.write_bytes(content)
    assert np.array_equal(pixels(source), np.rot90(pixels(film), -1, (1, 2)))
    colorize_video(colorize, source, tmp_path / "color.mp4", "libx264rgb", progress=False)
    with av.open(str(tmp_path / "color.mp4")) as result:
        assert next(result.decode(video=0)).rotation == 0
    assert np.abs(pixels(tmp_path / "color.mp4") @ BT601 - pixels(source)[..., 0]).max() < 0.294


@pytest.mark.parametrize("suffix", [".avi", ".m4v", ".mkv", ".mov", ".mts", ".ts"])
def test_kinds_of_files(film, colorize, tmp_path, monkeypatch, suffix):
    """The name, whose colon FFmpeg would take for the end of a protocol, is no matter."""
    monkeypatch.chdir(tmp_path)
    os.link(film, "Urlaub: 1999.mp4")
    report = colorize_video(colorize, "Urlaub: 1999.mp4", f"1999: color{suffix}", progress=False)
    assert report["frames"] == FRAMES == len(pixels(Path(f"1999: color{suffix}")))


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mpg", "libx264"), ("a.mpeg", "libx264"), ("a.ts", "ffv1")]
)
def test_what_cannot_be_read_back_is_not_begun(film, colorize, tmp_path, name, codec):
    with pytest.raises(DataError, match=rf"{name} cannot hold {codec} and aac .*; name a .mkv"):
        colorize_video(colorize, film, tmp_path / name, codec)
    assert not list(tmp_path.iterdir())


def test_a_result_that_cannot_be_read_back(film, colorize, tmp_path, monkeypatch):
    answers = iter([True, False])
    monkeypatch.setattr(video, "can_be_read", lambda path: next(answers))
    with pytest.raises(DataError, match=r"color.mp4: its pictures cannot be read back"):
        colorize_video(colorize, film, tmp_path / "color.mp4", progress=False)
    assert os.listdir(tmp_path / "color.mp4.parts") and not (tmp_path / "color.mp4").exists()


def test_a_damaged_film(run, tmp_path):
    """What can be read of it comes out, and what cannot is said."""
    source, noise = tmp_path / "film.mkv", np.random.default_rng(0).integers(0, 256, (30, 32, 32))
    with av.open(str(source), "w") as out:
        pictures = out.add_stream("mjpeg", rate=10)
        pictures.width, pictures.height, pictures.pix_fmt = 32, 32, "yuvj420p"
        for gray in noise.astype(np.uint8):
            frame = av.VideoFrame.from_ndarray(np.stack([gray] * 3, -1), format="rgb24")
            out.mux(pictures.encode(frame))
        out.mux(pictures.encode())
    with av.open(str(source)) as film:
        places = [(packet.pos, packet.size) for packet in film.demux(video=0) if packet.size]
    content = bytearray(source.read_bytes())
    content[places[3][0] + 8 : sum(places[3])] = bytes(places[3][1] - 8)
    source.write_bytes(content[: places[12][0]])
    status, printed, errors = run(source, "--out", tmp_path / "color.mkv")
    assert status == 1
    assert "frames: 11\n" in printed
    assert f"DAMAGED {source}: damaged packets of its pictures: 1, the first at 0.3 s" in errors
    assert f"DAMAGED {source}: it says that it has 3.0 s, but ends after 1.2" in errors
    with av.open(str(tmp_path / "color.mkv")) as result:
        assert len(list(result.decode(video=0))) == 11


def copied(source, target, *kinds):
    """A film of some of the streams of another."""
    with av.open(str(source)) as film, av.open(str(target), "w") as out:
        streams = [getattr(film.streams, kind)[0] for kind in kinds]
        copies = {stream.index: out.add_stream_from_template(stream) for stream in streams}
        for packet in film.demux(*streams):
            if packet.dts is not None:
                packet.stream = copies[packet.stream.index]
                out.mux(packet)
    return target


def test_damaged_sound(film, colorize, tmp_path):
    stream = copied(film, tmp_path / "film.ts", "video", "audio")
    content = bytearray(stream.read_bytes())
    second = content.index(b"\xff\xf1", content.index(b"\xff\xf1") + 1)  # of AAC's headers
    content[second + 2 : second + 6] = b"\xff" * 4
    stream.write_bytes(content)
    target = tmp_path / "color.mkv"
    report = colorize_video(colorize, stream, target, progress=False)
    assert report["frames"] == FRAMES
    assert any("damaged packets of its sound: " in what for what in report["damage"])
    assert 0 < len(packets(target)) < len(packets(film))


def test_what_is_refused(film, colorize, tiny_checkpoint, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="no codec 'h264' here; choose one of libx264"):
        colorize_video(colorize, film, tmp_path / "a.mp4", "h264")
    with pytest.raises(ValueError, match="from 0 to below 1, got 1"):
        colorize_video(colorize, film, tmp_path / "a.mp4", smoothing=1)
    with pytest.raises(DataError, match=r"cannot hold ffv1 and aac .*; name a .mkv"):
        colorize_video(colorize, film, tmp_path / "a.webm", "ffv1")
    small = Colorizer(tiny_checkpoint, device="cpu", memory=1)
    with pytest.raises(DataError, match="32×32 pixels do not go through the network at once"):
        colorize_video(small, film, tmp_path / "a.mp4")
    with pytest.raises(DataError, match=r"film.mp4 is the film itself; name another file"):
        colorize_video(colorize, film, film, overwrite=True)
    with pytest.raises(ValueError, match=r"cannot be written \(Is a directory\); name another"):
        colorize_video(colorize, film, tmp_path, overwrite=True)
    silent = copied(film, tmp_path / "sound.mp4", "audio")
    with pytest.raises(DataError, match=r"sound.mp4 has no frame that can be read"):
        colorize_video(colorize, silent, tmp_path / "a.mp4")
    silent.unlink()
    folder = tmp_path / "b.mp4.parts"
    folder.mkdir()
    np.savez(folder / "state.npz", numbers=json.dumps(dict(wanted={})))
    with pytest.raises(ValueError, match="parts of another film, network or settings"):
        colorize_video(colorize, film, tmp_path / "b.mp4")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(DataError, match=r"extra PyAV; pip install 'av>=17'"):
        colorize_video(colorize, film, tmp_path / "a.mp4")
    assert os.listdir(tmp_path) == ["b.mp4.parts"]


def test_what_the_tool_refuses(film, run, tmp_path):
    for args, sentence in {
        (film, "--out", tmp_path / "a.mp4", "--keep-color"): "--keep-color is for pictures, not",
        (film, "--out", tmp_path): "--out names the file, such as film_color.mp4",
        (film, film, "--out", tmp_path / "a.mp4"): "A film is colorized by itself",
        ("a.png", "--out", tmp_path, "--smoothing", 0.5): "--codec and --smoothing are for films",
    }.items():
        status, _, error = run(*args)
        assert status == 1
        assert sentence in error
    assert not list(tmp_path.iterdir())


def test_norms_share_the_statistics_of_all_frames():
    torch.manual_seed(0)
    norm = nn.InstanceNorm2d(3, affine=True)
    nn.init.normal_(norm.weight)
    network = nn.Sequential(
        nn.Conv2d(1, 3, 1), norm, nn.InstanceNorm2d(3, track_running_stats=True)
    )
    frames = torch.randn(3, 3, 8, 8) * torch.rand(3, 1, 1, 1) + torch.rand(3, 3, 1, 1)
    side_by_side = frames.permute(1, 2, 0, 3).flatten(2)[None]
    want = norm(side_by_side)[0].unflatten(2, (3, 8)).permute(2, 0, 1, 3)
    with shared_norms(network) as norms:
        (shared,) = norms
        assert network[1] is shared
        shared.learn()
        torch.testing.assert_close(shared(frames), want)  # all at once
        shared.learn()
        shared(frames[:1]), shared(frames[1:])  # one after the other
        shared.share()
        torch.testing.assert_close(shared(frames[2:]), want[2:])
        shared.own()
        torch.testing.assert_close(shared(frames), norm(frames))
    assert network[1] is norm


def test_chroma_is_kept_where_the_grey_is_and_only_there():
    smooth = Smoother(HandcraftedTranslation("bt601"), 0.75)
    gray = torch.full((1, 1, 8, 8), 128.0)
    red = torch.tensor([160.0, 115.0, 110.0]).view(1, 3, 1, 1).expand(-1, -1, 8, 8)
    blue = torch.tensor([110.0, 125.0, 190.0]).view(1, 3, 1, 1).expand(-1, -1, 8, 8)
    alone = [Smoother(smooth.projection.translation, 0)(color, gray)[0, 0] for color in (red, blue)]
    first = smooth(red, gray)
    moved = gray.clone()
    moved[..., 4:] += 60
    second = smooth(blue, moved)
    assert np.array_equal(first[0, 0], alone[0])
    want = 0.75 * alone[0].astype(float) + 0.25 * alone[1]
    assert np.abs(second[:, :3] - want).max() <= 1  # as before, but for a quarter
    assert np.ptp(second[:, 3:4] - alone[1].astype(float)) <= 1  # beside what moves
    assert np.abs(second[:, 4:] - 60.0 - alone[1]).max() <= 1
    smooth.forget()
    assert np.array_equal(smooth(blue, gray)[0, 0], alone[1])
