"""Colorize a film: its sound and time stamps as they are, the grey of every frame exact.

A film is done in parts of some frames, each a file in a folder beside the result, which are joined
at the end. A part counts once the state after it is written, and a run that was killed goes on
from there: the result is the same.
"""

import hashlib
import io
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from spynco_mm.datasets.images import DataError
from spynco_mm.utils.files import PathLike, check_writable, lock_folder, write_atomically
from spynco_mm.version import __version__

from .colorizer import Colorizer
from .film import CODECS, Encoder, address, can_be_read, join, pyav, read_frames
from .projection import as_planes, grey_error, quantize, to_gray
from .shots import SharedNorm, Shot, Smoother, flicker, shared_norms, shots

#: Most frames of a part: what is lost by a kill, and where players can enter.
PART = 48
#: Every so many frames of a part are read again, to tell what the codec has done to them.
CHECKED = 8
#: Every so many frames, and at the end of a part, flicker is measured, with two more through the
#: network.
MEASURED = 16


class _Progress:
    """What is done of a film, in a folder that belongs to it.

    Args:
        folder: The folder.
        wanted: What the parts in it depend on.
        overwrite: Begin anew where they are of something else.

    Attributes:
        numbers: ``parts`` and ``frames`` that are done, and sums for the report.
        arrays: Chroma and grey of the last frame.

    Raises:
        ValueError: The folder has parts of something else.
    """

    def __init__(self, folder: Path, wanted: dict, overwrite: bool):
        self.folder, self.file = folder, folder / "state.npz"
        self.numbers: dict = dict(wanted=wanted, parts=0, frames=0, cuts=[], sums={}, most={})
        self.arrays: dict = {}
        if not self.file.exists():
            return
        with np.load(self.file, allow_pickle=False) as stored:
            numbers = json.loads(str(stored["numbers"]))
            arrays = {k: torch.from_numpy(stored[k]) for k in stored.files if k != "numbers"}
        if numbers["wanted"] == wanted:
            self.numbers, self.arrays = numbers, arrays
        elif not overwrite:
            raise ValueError(
                f"{folder} has parts of another film, network or settings; begin anew with "
                "--overwrite, or name another file."
            )

    def part(self, number: int) -> Path:
        """The file of a part."""
        return self.folder / f"{number:06}.nut"

    def add(self, name: str, total: float, count: int, most: float = 0) -> None:
        """Count something in."""
        old = self.numbers["sums"].get(name, (0, 0))
        self.numbers["sums"][name] = (old[0] + total, old[1] + count)
        self.numbers["most"][name] = max(self.numbers["most"].get(name, 0), most)

    def mean(self, name: str) -> float | None:
        """Of what was counted; None if nothing was."""
        total, count = self.numbers["sums"].get(name, (0, 0))
        return total / count if count else None

    def save(self, smoother: Smoother) -> None:
        """Make a part count."""
        content = io.BytesIO()
        arrays = dict(chroma=smoother.chroma.numpy(), gray=smoother.gray.numpy())
        np.savez(content, numbers=json.dumps(self.numbers), **arrays)
        write_atomically(self.file, content.getvalue())


def _wanted(colorizer: Colorizer, source: Path, codec: str, smoothing: float) -> dict:
    """What the parts of a film depend on."""
    weights = hashlib.sha256()
    for name, value in colorizer.generator.state_dict().items():
        weights.update(name.encode() + value.cpu().numpy().tobytes())
    return dict(
        version=__version__,
        source=[str(source.resolve()), source.stat().st_size, source.stat().st_mtime_ns],
        weights=weights.hexdigest(),
        translation=colorizer.translation.weight.tolist(),
        outputs=colorizer.outputs,
        working_size=colorizer.working_size,
        saturation=colorizer.projection.saturation,
        codec=codec,
        smoothing=smoothing,
        part=PART,
    )


def _network(colorizer: Colorizer, grays: np.ndarray) -> torch.Tensor:
    """N×H×W grey to N×3×H×W colours, not rounded, all in [0, 255]."""
    results = colorizer.colorize_gray(list(grays), [np.dtype(np.float32)] * len(grays))
    return torch.from_numpy(np.stack([r for (r,) in results])).permute(0, 3, 1, 2) * 255


def _learn(colorizer: Colorizer, norms: "list[SharedNorm]", samples: "list[np.ndarray]") -> None:
    """Give the norms the statistics of a shot, if there are any."""
    if not norms:
        return
    for norm in norms:
        norm.learn()
    _network(colorizer, np.stack([to_gray(s, colorizer.translation) for s in samples]))
    for norm in norms:
        norm.share()


class _Run:
    """The work on one film; see :func:`colorize_video`."""

    def __init__(self, colorizer, norms, progress: _Progress, smoother: Smoother, encoder, bar):
        self.colorizer, self.norms, self.bar = colorizer, norms, bar
        self.progress, self.smoother, self.encoder = progress, smoother, encoder

    def shot(self, shot: Shot, frames: "Iterator[tuple[int, np.ndarray]]") -> None:
        """Do what is not done of a shot, whose frames come next."""
        numbers, learnt = self.progress.numbers, False
        for first in range(shot.first, shot.last, PART):
            count = min(PART, shot.last - first)
            if first < numbers["frames"]:
                for _ in range(count):
                    next(frames)
                continue
            if not learnt:
                _learn(self.colorizer, self.norms, shot.samples)
                learnt = True
            if first == shot.first:
                self.smoother.forget()
                numbers["cuts"].append(first)
            self.part(frames, count)

    def part(self, frames: "Iterator[tuple[int, np.ndarray]]", count: int) -> None:
        """Do the next part."""
        progress, colorizer = self.progress, self.colorizer
        path = progress.part(progress.numbers["parts"])
        encoder, kept, last = self.encoder(path), {}, []
        for start in range(0, count, colorizer.batch_size):
            size = min(colorizer.batch_size, count - start)
            stamps, pixels = zip(*(next(frames) for _ in range(size)))
            grays = np.stack([to_gray(p, colorizer.translation) for p in pixels])
            for i, color in enumerate(_network(colorizer, grays)):
                result = self.smoother(color[None], as_planes(grays[i : i + 1]))
                encoder.add(result, stamps[i])
                error = grey_error(result, grays[i], colorizer.translation)
                progress.add("grey", error, 1, error)
                last = [*last[-1:], (result, grays[i])]
                number = start + i
                if number % CHECKED == 0:
                    kept[number] = grays[i]
                if len(last) == 2 and (number % MEASURED == MEASURED - 1 or number == count - 1):
                    self.compare(*zip(*last))
            self.bar.update(size)
        encoder.close()
        decoded = -1
        for decoded, (_, shown) in enumerate(read_frames(path)):
            if decoded in kept:
                off = np.abs(to_gray(shown, colorizer.translation) - kept[decoded])
                progress.add("codec", float(off.sum()), off.size, float(off.max()))
        if decoded + 1 != count:
            raise DataError(f"{path} should have {count} frames, but {decoded + 1} can be read.")
        progress.numbers["parts"] += 1
        progress.numbers["frames"] += count
        progress.save(self.smoother)

    def compare(self, results: "tuple[np.ndarray, ...]", grays: "tuple[np.ndarray, ...]") -> None:
        """Measure how two frames flicker, and how they would, colorized each by itself."""
        for norm in self.norms:
            norm.own()
        alone = quantize(_network(self.colorizer, np.stack(grays)), np.dtype(np.uint8))
        for norm in self.norms:
            norm.share()
        self.progress.add("before", *flicker(*alone, *grays))
        self.progress.add("after", *flicker(*results, *grays))


def _check(colorizer: Colorizer, codec: str) -> None:
    """Refuse what no film can be made with."""
    shape = colorizer.translation.out_channels, colorizer.translation.in_channels
    if colorizer.projection is None or len(colorizer.outputs) != 1 or shape != (1, 3):
        raise ValueError(
            "A film is made of one output in red, green and blue that is projected onto the grey; "
            "use a Colorizer of one such output, and not raw."
        )
    if codec not in CODECS:
        raise ValueError(f"There is no codec '{codec}' here; choose one of {', '.join(CODECS)}.")


def colorize_video(
    colorizer: Colorizer,
    source: PathLike,
    target: PathLike,
    codec: str = "libx264",
    smoothing: float = 0.8,
    overwrite: bool = False,
    progress: bool = True,
) -> dict:
    """Colorize a film; an interrupted call goes on where it stopped.

    Packets of sound are copied, and frames keep their time stamps. A rotation is applied. Of every
    frame that the codec gets, H_t is the grey of the source's frame, to the rounding of a level
    (see :class:`~spynco_mm.apis.Projection`). Beside the result goes a report, ``<target>.json``.

    Args:
        colorizer: One output, not raw.
        source: The film.
        target: The result; its suffix says of which kind.
        codec: ``libx264``, or ``libx264rgb`` or ``ffv1``, which lose nothing.
        smoothing: As strength of :class:`~spynco_mm.apis.shots.Smoother`.
        overwrite: Do again what is there.
        progress: Show a progress bar.

    Returns:
        The report: ``frames``; ``cuts``, the first frame of each shot; ``flicker``, the mean
        distance in CIELAB's a* and b* between two frames in 16 where the grey changes by less
        than two levels, and ``flicker_before``, the same with each frame colorized
        by itself; ``grey_error``, max |H_t(O) − I| of what the codec gets, and ``codec_error`` and
        ``codec_error_max``, of what it gives, all in levels of 255; ``left_out``, kinds of streams;
        ``damage``, what of the film could not be read, in words.

    Raises:
        DataError: There is no PyAV, the file is no film, or the target is the film or cannot hold
            it.
        ValueError: An argument is out of its range, something else is there or was begun, or the
            target cannot be written.
    """
    av = pyav()
    _check(colorizer, codec)
    source, target = Path(source), Path(target)
    smoother = Smoother(colorizer.translation, smoothing)
    told, folder = (target.with_name(target.name + more) for more in (".json", ".parts"))
    joined = folder / f"joined{target.suffix}"
    if target.exists() and source.exists() and target.samefile(source):
        raise DataError(f"{target} is the film itself; name another file for the result.")
    wanted = _wanted(colorizer, source, codec, smoothing)
    if target.exists() and not overwrite:
        report = json.loads(told.read_text()) if told.exists() else {}
        if report.pop("wanted", None) != wanted:
            raise DataError(
                f"{target} is there already, and of another film, network, version or settings; "
                "--overwrite does it again."
            )
        if not joined.exists():  # A run was killed while it cleaned up.
            shutil.rmtree(folder, ignore_errors=True)
        return report
    check_writable(target)
    with ExitStack() as stack:
        film = stack.enter_context(av.open(address(source)))
        size = next((pixels.shape[1::-1] for _, pixels in read_frames(source)), None)
        if size is None:
            raise DataError(f"{source} has no frame that can be read; name another film.")
        shrunk = min(1, (colorizer.working_size or max(size)) / max(size))
        if size[0] * size[1] * shrunk**2 > colorizer.pass_pixels:
            raise DataError(
                f"{size[0]}×{size[1]} pixels do not go through the network at once, which norms "
                "of several frames need; use a working size, or allow more memory."
            )
        stream = film.streams.video[0]
        bt709 = abs(colorizer.translation.weight[0, 0] - 0.2126) < 1e-3

        def encoder(path: Path) -> Encoder:
            return Encoder(path, codec, size, stream, bt709)

        try:  # Before the work, whether the target can hold all of it.
            with tempfile.TemporaryDirectory() as trial_folder:
                part, trial = Path(trial_folder, "part.nut"), Path(trial_folder, joined.name)
                frame = encoder(part)
                frame.add(np.zeros((*size[::-1], 3), np.uint8), 0)
                frame.close()
                join([part], source, trial, sound_packets=1)
                if not can_be_read(trial):
                    raise ValueError("its pictures could not be read back")
        except (av.FFmpegError, ValueError) as error:
            sound = ", ".join(s.codec_context.name for s in film.streams.audio) or "no sound"
            raise DataError(
                f"{target} cannot hold {codec} and {sound} ({error}); name a .mkv."
            ) from error
        stack.enter_context(lock_folder(folder))
        done = _Progress(folder, wanted, overwrite)
        joined.touch()  # It is there until it has become the target.
        if done.arrays:
            smoother.chroma, smoother.gray = done.arrays["chroma"], done.arrays["gray"]
        norms = stack.enter_context(shared_norms(colorizer.generator))
        frames = done.numbers["frames"]
        bar = tqdm(total=stream.frames or None, initial=frames, unit="frame", disable=not progress)
        stack.enter_context(bar)
        run, frames = _Run(colorizer, norms, done, smoother, encoder, bar), read_frames(source)
        damage: list[str] = []
        for shot in shots(pixels for _, pixels in read_frames(source, damage)):
            run.shot(shot, frames)
        if lost := join([done.part(i) for i in range(done.numbers["parts"])], source, joined):
            damage.append(f"damaged packets of its sound: {lost}")
        if not can_be_read(joined):
            raise DataError(f"{target}: its pictures cannot be read back; name a .mkv.")
        report = dict(
            frames=done.numbers["frames"],
            cuts=done.numbers["cuts"],
            flicker_before=done.mean("before"),
            flicker=done.mean("after"),
            grey_error=done.numbers["most"]["grey"],
            codec_error=done.mean("codec"),
            codec_error_max=done.numbers["most"]["codec"],
            left_out=[s.type for s in film.streams if s is not stream and s.type != "audio"],
            damage=damage,
        )
        content = json.dumps(dict(report, wanted=wanted), indent=2)
        write_atomically(told, content.encode())
        os.replace(joined, target)
    shutil.rmtree(folder)
    return report
