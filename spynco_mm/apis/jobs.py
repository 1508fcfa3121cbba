"""Colorize files and folders: what to read, what to write where, and who does it meanwhile."""

import glob
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from spynco_mm.datasets.decoding import picture_size
from spynco_mm.datasets.images import DataError, list_images
from spynco_mm.utils.files import write_atomically

from .colorizer import Colorizer, to_gray
from .pictures import Picture, encode_picture, output_suffix, read_picture

#: Decoded pictures that wait for the network, and coloured ones that wait to be written, in pixels.
WAITING_PIXELS = 1 << 25


@dataclass(frozen=True)
class Job:
    """A picture file and the files to be made from it.

    Attributes:
        source: What is read.
        targets: The coloured picture of each output of the colorizer.
        comparison: Where grey and colour go side by side, or None.
    """

    source: Path
    targets: "tuple[Path, ...]"
    comparison: Path | None = None

    @property
    def files(self) -> "tuple[Path, ...]":
        """All that is written."""
        return (*self.targets, *([self.comparison] if self.comparison else []))


def _expand(name: str, out: Path) -> Iterator["tuple[Path, Path]"]:
    """The picture files that an argument names, each with its place below the output folder."""
    path = Path(name)
    if path.is_dir():
        # Results of an earlier run are no input of this one.
        inside = out.resolve()
        found = [p for p in list_images(path) if inside not in p.resolve().parents]
        if not found:
            raise DataError(f"{name}: all pictures in this folder are results in {out}.")
        yield from ((p, p.relative_to(path)) for p in found)
    elif path.exists() or not glob.has_magic(name):
        yield path, Path(path.name)
    else:
        # Structure is kept from the first folder on that the pattern leaves open.
        root = Path(*path.parts[: [glob.has_magic(part) for part in path.parts].index(True)])
        found = sorted(Path(p) for p in glob.glob(name, recursive=True) if os.path.isfile(p))
        found = [p for p in found if out.resolve() not in p.resolve().parents]
        if not found:
            raise DataError(f"{name}: no file fits this pattern; quote it, or check it with ls.")
        yield from ((p, p.relative_to(root)) for p in found)


def plan(
    inputs: Iterable[str],
    out: Path,
    outputs: Sequence[int] = (1,),
    suffix: str | None = None,
    compare: bool = False,
) -> list[Job]:
    """Decide what is read and what is written, before anything is done.

    Args:
        inputs: Files, folders (with what is below them, but not with hidden files) and patterns,
            ``**`` included.
        out: Folder of the results, with the folders' structure. It may lie in one of the folders:
            what is in it is no input.
        outputs: Outputs of the colorizer. With more than one, ``.G1`` and so on is put before the
            suffix.
        suffix: Of the results; None for the source's, or ``.png`` where that cannot hold colour.
        compare: Whether ``<name>.compare<suffix>`` is wanted as well.

    Raises:
        DataError: Nothing is found, two results have one name, a result would replace a source, or
            ``out`` is a file.
    """
    if out.exists() and not out.is_dir():
        raise DataError(f"{out} is no folder, so no results can be put in it; name another.")
    jobs, owners, sources = [], {}, set()
    for name in inputs:
        if Path(name).is_dir() and Path(name).resolve() == out.resolve():
            raise DataError(
                f"{name} is the folder of the results as well; name another with --out."
            )
        for source, place in _expand(name, out):
            if source.resolve() in sources:
                continue
            sources.add(source.resolve())
            target = out / place.with_suffix(suffix or output_suffix(source))
            targets = (target,)
            if len(outputs) > 1:
                targets = tuple(target.with_suffix(f".G{i}{target.suffix}") for i in outputs)
            comparison = target.with_suffix(f".compare{target.suffix}") if compare else None
            job = Job(source, targets, comparison)
            jobs.append(job)
            for file in job.files:
                # Some file systems take a.png and A.png for one file.
                other = owners.setdefault(str(file.resolve()).lower(), source)
                if other is not source:
                    raise DataError(
                        f"{other} and {source} would both be written to {file}; colorize them into "
                        "different folders."
                    )
    for job in jobs:
        for file in job.files:
            if file.resolve() in sources:
                raise DataError(f"{file} is a source and would be overwritten; change --out.")
    return jobs


@dataclass
class Report:
    """What became of the jobs.

    Attributes:
        done: Jobs whose files were written.
        skipped: Jobs whose files were all there.
        failed: Jobs that could not be done, and why.
        notes: Sources of which not everything went into the result, and what.
        megapixels: Of the sources done.
        seconds: From start to end.
        network_seconds: Of these, in the network.
    """

    done: list = field(default_factory=list)
    skipped: list = field(default_factory=list)
    failed: dict = field(default_factory=dict)
    notes: dict = field(default_factory=dict)
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
        pixels = (pixels >> 8).astype(np.uint8) if pixels.dtype == np.uint16 else pixels
        parts.append(np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels)
    return np.concatenate(parts, axis=1)


def _reason(error: Exception, source: Path) -> str:
    """One line for the user, without the file's name, which stands before it."""
    if isinstance(error, (DataError, OSError)):
        return str(error).replace(f"{source}: ", "", 1)
    return f"{type(error).__name__}: {error}".splitlines()[0]


def colorize_files(
    colorizer: Colorizer,
    jobs: Sequence[Job],
    workers: int | None = None,
    overwrite: bool = False,
    keep_color: bool = False,
    show: Callable[[Job, np.ndarray], None] | None = None,
    progress: bool = True,
) -> Report:
    """Do the jobs. While the network computes, other threads read ahead and write behind.

    Pictures of one size go through the network together. A picture that cannot be colorized is
    noted and does not stop the others. Files appear whole or not at all.

    Args:
        colorizer: Its ``outputs`` are those the jobs were planned for.
        jobs: From :func:`plan`.
        workers: Threads for reading and writing; None for one per core, at most 8.
        overwrite: Do again what is there.
        keep_color: Refuse coloured pictures rather than turning them grey.
        show: Called with every job and its side-by-side picture, in any order and from any thread.
        progress: Show a progress bar.
    """
    report = Report()
    started, network = time.perf_counter(), colorizer.network_seconds
    for job in jobs:
        if not overwrite and all(file.exists() for file in job.files):
            report.skipped.append(job)
    skipped = {job.source for job in report.skipped}
    todo = [job for job in jobs if job.source not in skipped]

    def read(job: Job) -> Picture:
        picture = read_picture(job.source)
        if keep_color and picture.is_color:
            raise DataError(
                "it is in colour already; without --keep-color it is turned grey first."
            )
        return picture

    def write(job: Job, picture: Picture, outputs: Sequence[Picture]) -> None:
        for target, output in zip(job.targets, outputs):
            write_atomically(target, encode_picture(output, target.suffix))
        if job.comparison or show:
            gray = np.round(to_gray(picture.pixels, colorizer.translation)).astype(np.uint8)
            both = side_by_side([gray, *(output.pixels for output in outputs)])
            if job.comparison:
                content = encode_picture(
                    replace(picture, pixels=both, alpha=None), job.comparison.suffix
                )
                write_atomically(job.comparison, content)
            if show:
                show(job, both)

    def show_what_is_there(job: Job) -> None:
        gray = np.round(to_gray(read_picture(job.source).pixels, colorizer.translation))
        outputs = [read_picture(target).pixels for target in job.targets]
        show(job, side_by_side([gray.astype(np.uint8), *outputs]))

    workers = workers or min(os.cpu_count() or 1, 8)
    pool = ThreadPoolExecutor(workers)
    bar = tqdm(total=len(todo), unit="picture", disable=not progress)
    writing: deque = deque()

    def fail(job: Job, error: Exception) -> None:
        report.failed[job] = _reason(error, job.source)
        bar.update()

    def finish(job: Job, future: Future, picture: Picture) -> None:
        try:
            future.result()
        except Exception as error:
            fail(job, error)
            return
        report.done.append(job)
        report.megapixels += picture.pixels.shape[0] * picture.pixels.shape[1] / 1e6
        if picture.note:
            report.notes[job] = picture.note
        bar.update()

    try:
        sizes = list(pool.map(picture_size, [job.source for job in todo]))
        # What has no size is read like the others, to learn the reason.
        passes = list(colorizer.passes([size or (0, 0) for size in sizes]))
        pixels = [sum(np.prod(sizes[i] or (0, 0)) for i in indices) for indices in passes]
        reading: deque = deque()
        upcoming = 0
        for number, indices in enumerate(passes):
            # Read ahead, but hold no more than fits.
            while upcoming < len(passes) and (
                upcoming <= number or sum(pixels[number : upcoming + 1]) <= WAITING_PIXELS
            ):
                reading.append([pool.submit(read, todo[i]) for i in passes[upcoming]])
                upcoming += 1
            ready = []
            for i, future in zip(indices, reading.popleft()):
                try:
                    ready.append((todo[i], future.result()))
                except Exception as error:
                    fail(todo[i], error)
            try:
                results = colorizer.colorize_pictures([picture for _, picture in ready])
            except (DataError, RuntimeError, MemoryError) as error:
                for job, _ in ready:
                    fail(job, error)
                continue
            for (job, picture), outputs in zip(ready, results):
                writing.append((job, pool.submit(write, job, picture, outputs), picture))
            while writing and (
                writing[0][1].done()
                or sum(p.pixels.shape[0] * p.pixels.shape[1] for *_, p in writing) > WAITING_PIXELS
            ):
                finish(*writing.popleft())
        while writing:
            finish(*writing.popleft())
        if show:
            shown = [(job, pool.submit(show_what_is_there, job)) for job in report.skipped]
            for job, future in shown:
                try:
                    future.result()
                except Exception as error:
                    report.failed[job] = f"its picture for the sheet: {_reason(error, job.source)}"
    finally:
        bar.close()
        pool.shutdown(cancel_futures=True)
    report.failed = {job: report.failed[job] for job in jobs if job in report.failed}
    report.seconds = time.perf_counter() - started
    report.network_seconds = colorizer.network_seconds - network
    return report
