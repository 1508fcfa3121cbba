"""Colorize files: other threads read pictures ahead of the network and write them behind it."""

import errno
import io
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np
from PIL import Image
from tqdm import tqdm

from spynco_mm.datasets.decoding import picture_size
from spynco_mm.datasets.picture import DataError, bytes_of
from spynco_mm.utils.files import write_atomically

from .colorizer import Colorizer
from .confidence import disagreement, disagreement_picture
from .hints import Hints
from .pictures import LONGEST, OUTPUT_SUFFIXES, Picture, encode_picture, fit_to_format, read_picture
from .planning import Job
from .projection import grey_error, to_gray

#: Decoded pictures that wait for the network, and coloured ones that wait to be written, in pixels.
WAITING_PIXELS = 1 << 25
#: Formats that change the pixels that are written.
LOSSY = (".jpg", ".webp")
#: Errors that every later picture would meet as well.
FATAL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)

Show = Callable[[Job, np.ndarray], None]


@dataclass
class Report:
    """What became of the jobs.

    Attributes:
        done: Jobs whose files were written.
        skipped: Jobs whose files were all there.
        failed: Jobs that could not be done, and why.
        notes: Jobs of whose source not everything went into the result, or whose name is not as
            usual, and what.
        stopped: Why the rest was not tried; empty if it was.
        grey_errors: By file of the jobs done, max |H_t(O) − I| of what is in it, in levels of 255;
            not of files that had to be reduced.
        disagreements: By file of a job's confidence, the mean of what is in it, see
            :func:`~spynco_mm.apis.disagreement`.
        megapixels: Of the sources done.
        seconds: From start to end.
        network_seconds: Of these, in the network.
    """

    done: list = field(default_factory=list)
    skipped: list = field(default_factory=list)
    failed: dict = field(default_factory=dict)
    notes: dict = field(default_factory=dict)
    stopped: str = ""
    grey_errors: dict = field(default_factory=dict)
    disagreements: dict = field(default_factory=dict)
    megapixels: float = 0.0
    seconds: float = 0.0
    network_seconds: float = 0.0

    @property
    def megapixels_per_second(self) -> float:
        """End to end: reading, colorizing and writing."""
        return self.megapixels / self.seconds if self.seconds else 0.0

    @property
    def share_outside_network(self) -> float:
        """The part of the time in which the network waited, from 0 to 1."""
        return 1 - self.network_seconds / self.seconds if self.seconds else 0.0


def side_by_side(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures of one height, H×W or H×W×3, uint8 or uint16, as one of H×W×3 bytes."""
    parts = []
    for pixels in pictures:
        pixels = bytes_of(pixels)
        parts.append(np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels)
    return np.concatenate(parts, axis=1)


def _gray_bytes(picture: Picture, colorizer: Colorizer) -> np.ndarray:
    return np.round(to_gray(picture.pixels, colorizer.translation)).astype(np.uint8)


def _read(job: Job, keep_color: bool) -> Picture:
    picture = read_picture(job.source)
    if keep_color and picture.is_color:
        raise DataError("it is in colour already; without --keep-color it is turned grey first.")
    return picture


def _write(
    job: Job, picture: Picture, outputs: Sequence[Picture], colorizer: Colorizer, show: Show | None
) -> "tuple[str, dict, dict]":
    """Write all files of a job; returns what to say, their grey errors, and disagreements."""
    exact, errors, doubt = to_gray(picture.pixels, colorizer.translation), {}, {}
    if job.confidence:
        spread = disagreement([output.pixels for output in outputs])
        doubt[job.confidence] = float(spread.mean())
        map_ = Picture(disagreement_picture(spread))
        write_atomically(job.confidence, encode_picture(map_, job.confidence.suffix))
    outputs = outputs[: len(job.targets)]
    said = Picture(picture.pixels)
    said.add_notes([job.note] if job.note else [])
    for target, output in zip(job.targets, outputs):
        output = fit_to_format(output, target.suffix)
        content = encode_picture(output, target.suffix)
        write_atomically(target, content)
        written = output.pixels
        if OUTPUT_SUFFIXES[target.suffix.lower()] in LOSSY:
            written = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
        if written.shape[:2] == exact.shape[:2]:
            errors[target] = grey_error(written, exact, colorizer.translation)
        said.add_notes([output.note] if output.note else [])
    if job.comparison or show:
        both = side_by_side([_gray_bytes(picture, colorizer), *(o.pixels for o in outputs)])
        if show:
            show(job, both)
        if job.comparison:
            longest = LONGEST.get(OUTPUT_SUFFIXES[job.comparison.suffix.lower()])
            if longest and max(both.shape[:2]) > longest:
                image = Image.fromarray(both)
                image.thumbnail((longest, longest))
                both = np.asarray(image)
                said.add_notes([f"the comparison is reduced to {image.width}×{image.height}"])
            compared = replace(picture, pixels=both, alpha=None)
            write_atomically(job.comparison, encode_picture(compared, job.comparison.suffix))
    return said.note, errors, doubt


def _show_what_is_there(job: Job, colorizer: Colorizer, show: Show) -> None:
    outputs = [read_picture(target).pixels for target in job.targets]
    show(job, side_by_side([_gray_bytes(read_picture(job.source), colorizer), *outputs]))


class _ReadAhead:
    """Iterates over passes of the network: pictures of one size, read before their turn comes.

    Args:
        pool: The threads that read.
        read: Called with a job.
        jobs: All of them.
        colorizer: Says which of them go together.
    """

    def __init__(
        self,
        pool: Executor,
        read: Callable[[Job], Picture],
        jobs: Sequence[Job],
        colorizer: Colorizer,
    ):
        self.pool, self.read = pool, read
        # What has no size is read like the others, to learn the reason.
        sizes = [size or (0, 0) for size in pool.map(picture_size, [job.source for job in jobs])]
        self.passes = [[jobs[i] for i in indices] for indices in colorizer.passes(sizes)]
        self.pixels = [
            sum(sizes[i][0] * sizes[i][1] for i in indices) for indices in colorizer.passes(sizes)
        ]

    def __iter__(self) -> "Iterator[list[tuple[Job, Future]]]":
        reading: deque = deque()
        upcoming = 0
        for number in range(len(self.passes)):
            # The next pass in any case, those after it as long as all that wait fit.
            while upcoming < len(self.passes) and (
                upcoming <= number or sum(self.pixels[number : upcoming + 1]) <= WAITING_PIXELS
            ):
                reading.append(
                    [(job, self.pool.submit(self.read, job)) for job in self.passes[upcoming]]
                )
                upcoming += 1
            yield reading.popleft()


class _WriteBehind:
    """Coloured pictures that other threads write, in the order in which they came.

    Args:
        pool: The threads that write.
        write: Called with a job, its picture and the outputs.
        finished: Called with a job, its picture and its future once it is done.
    """

    def __init__(self, pool: Executor, write: Callable[..., str], finished: Callable[..., None]):
        self.pool, self.write, self.finished = pool, write, finished
        self.waiting: deque = deque()
        self.pixels = 0

    def add(self, job: Job, picture: Picture, outputs: Sequence[Picture]) -> None:
        """Have a picture written."""
        self.waiting.append((job, picture, self.pool.submit(self.write, job, picture, outputs)))
        self.pixels += picture.pixels.shape[0] * picture.pixels.shape[1]

    def settle(self, most_pixels: int = 0) -> None:
        """Finish what is written, and wait until no more than so many pixels are not."""
        while self.waiting and (self.waiting[0][2].done() or self.pixels > most_pixels):
            job, picture, future = self.waiting.popleft()
            self.pixels -= picture.pixels.shape[0] * picture.pixels.shape[1]
            self.finished(job, picture, future)


class _Stop(Exception):
    """The run cannot go on; the message says why."""


def _reason(error: BaseException, job: Job) -> str:
    """One line for the user, without the file's name, which stands before it."""
    if isinstance(error, (DataError, OSError)):
        return str(error).removeprefix(f"{job.source}: ")
    return f"{type(error).__name__}: {error}".splitlines()[0]


class _Bookkeeper:
    """Enters in the report, and on the progress bar, what became of each job."""

    def __init__(self, report: Report, bar: tqdm):
        self.report, self.bar = report, bar

    def failed(self, job: Job, error: BaseException) -> None:
        """Enter a failure.

        Raises:
            _Stop: The others would fail alike.
        """
        self.report.failed[job] = _reason(error, job)
        self.bar.update()
        if isinstance(error, OSError) and error.errno in FATAL:
            raise _Stop(error.strerror)

    def finished(self, job: Job, picture: Picture, writing: Future) -> None:
        """Enter what writing a job came to.

        Raises:
            _Stop: As :meth:`failed`.
        """
        if writing.cancelled():
            return
        if writing.exception():
            self.failed(job, writing.exception())
            return
        self.report.done.append(job)
        self.report.megapixels += picture.pixels.shape[0] * picture.pixels.shape[1] / 1e6
        note, errors, doubt = writing.result()
        if note:
            self.report.notes[job] = note
        self.report.grey_errors.update(errors)
        self.report.disagreements.update(doubt)
        self.bar.update()


def colorize_files(
    colorizer: Colorizer,
    jobs: Sequence[Job],
    workers: int | None = None,
    overwrite: bool = False,
    keep_color: bool = False,
    show: Show | None = None,
    progress: bool = True,
    hints: Hints | None = None,
) -> Report:
    """Do the jobs. While the network computes, other threads read ahead and write behind.

    Pictures of one size go through the network together. A picture that cannot be colorized is
    noted and does not stop the others; a full disk stops them. Files appear whole or not at all.

    Args:
        colorizer: Its ``outputs`` begin with those the jobs were planned for; all of them are
            compared for the confidence.
        jobs: From :func:`plan`.
        workers: Threads for reading and writing; None for one per core, at most 8.
        overwrite: Do again what is there.
        keep_color: Refuse coloured pictures rather than turning them grey.
        show: Called with every job and its side-by-side picture, in any order and from any thread.
        progress: Show a progress bar.
        hints: Colours that are known in places, of every picture.
    """
    report = Report()
    started, network = time.perf_counter(), colorizer.network_seconds
    todo = []
    for job in jobs:
        there = not overwrite and all(map(os.path.exists, job.files))
        (report.skipped if there else todo).append(job)
    bar = tqdm(total=len(todo), unit="picture", disable=not progress)
    book = _Bookkeeper(report, bar)
    pool = ThreadPoolExecutor(workers or min(os.cpu_count() or 1, 8))
    writer = _WriteBehind(pool, lambda *written: _write(*written, colorizer, show), book.finished)
    try:
        for jobs_read in _ReadAhead(pool, lambda job: _read(job, keep_color), todo, colorizer):
            ready = []
            for job, reading in jobs_read:
                try:
                    ready.append((job, reading.result()))
                except Exception as error:
                    book.failed(job, error)
            results = _colorized(colorizer, [picture for _, picture in ready], hints)
            for (job, picture), outputs in zip(ready, results):
                if isinstance(outputs, Exception):
                    book.failed(job, outputs)
                else:
                    writer.add(job, picture, outputs)
            writer.settle(WAITING_PIXELS)
        writer.settle()
        if show:
            _show_skipped(pool, colorizer, show, report)
    except _Stop as stop:
        report.stopped = str(stop)
        pool.shutdown(cancel_futures=True)
        _settle_after_stop(writer)
    finally:
        bar.close()
        pool.shutdown(cancel_futures=True)
    report.failed = {job: report.failed[job] for job in jobs if job in report.failed}
    report.seconds = time.perf_counter() - started
    report.network_seconds = colorizer.network_seconds - network
    return report


def _colorized(colorizer: Colorizer, pictures: Sequence[Picture], hints: Hints | None) -> list:
    """The outputs of each picture, or the error of those that cannot be colorized by themselves."""
    try:
        return colorizer.colorize_pictures(pictures, [hints] * len(pictures))
    except (DataError, RuntimeError, MemoryError) as error:
        if len(pictures) == 1:
            return [error]
    return [outputs for p in pictures for outputs in _colorized(colorizer, [p], hints)]


def _show_skipped(pool: Executor, colorizer: Colorizer, show: Show, report: Report) -> None:
    """Show what was there already."""
    shown = [(j, pool.submit(_show_what_is_there, j, colorizer, show)) for j in report.skipped]
    for job, future in shown:
        if future.exception():
            reason = _reason(future.exception(), job)
            report.failed[job] = f"its picture for the sheet: {reason}"


def _settle_after_stop(writer: _WriteBehind) -> None:
    """Enter what was written meanwhile; what failed alike stops nothing more."""
    while writer.waiting:
        try:
            writer.settle()
        except _Stop:
            continue
