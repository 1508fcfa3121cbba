"""What is to be colorized: which files are read, and what is written where."""

import glob
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from spynco_mm.datasets.images import DataError, list_files, list_images
from spynco_mm.utils.console import printable

from .pictures import output_suffix


@dataclass(frozen=True)
class Job:
    """A picture file and the files to be made from it.

    Attributes:
        source: What is read.
        targets: The coloured picture of each output of the colorizer.
        comparison: Where grey and colour go side by side, or None.
        confidence: Where the outputs' disagreement goes as a picture, or None.
        note: What is unusual about the names, in words; mostly empty.
    """

    source: Path
    targets: "tuple[Path, ...]"
    comparison: Path | None = None
    note: str = ""
    confidence: Path | None = None

    @property
    def files(self) -> "tuple[Path, ...]":
        """All that is written."""
        return (*self.targets, *filter(None, (self.comparison, self.confidence)))


def _outside(paths: Iterable[Path], out: Path) -> list[Path]:
    """Those that are not in the output folder: results of an earlier run are no input of this."""
    inside = out.resolve()
    return [path for path in paths if inside not in Path(os.path.realpath(path)).parents]


def _expand(name: str, out: Path) -> Iterator["tuple[Path, Path]"]:
    """The picture files that an argument names, each with its place below the output folder."""
    if not name:
        raise DataError("An empty name stands for no picture; name the current folder with a dot.")
    path = Path(name)
    if path.is_dir():
        if path.resolve() == out.resolve():
            raise DataError(
                f"{name} is the folder of the results as well; name another with --out."
            )
        found = _outside(list_images(path), out)
        if not found:
            raise DataError(f"{name}: all pictures in this folder are results in {out}.")
        yield from ((p, p.relative_to(path)) for p in found)
    elif path.exists() or not glob.has_magic(name):
        yield path, Path(path.name)
    else:
        # Structure is kept from the first folder on that the pattern leaves open.
        root = Path(*path.parts[: [glob.has_magic(part) for part in path.parts].index(True)])
        found = sorted(Path(p) for p in glob.glob(name, recursive=True) if os.path.isfile(p))
        found = _outside(found, out)
        if not found:
            raise DataError(f"{name}: no file fits this pattern; quote it, or check it with ls.")
        yield from ((p, p.relative_to(root)) for p in found)


def left_out(inputs: Iterable[str], out: Path) -> list[Path]:
    """The files in folders among the inputs that are not read, since their names are no picture's.

    Args:
        inputs: As for :func:`plan`.
        out: As for :func:`plan`.
    """
    folders = [Path(name) for name in inputs if Path(name).is_dir()]
    return [path for folder in folders for path in _outside(list_files(folder)[1], out)]


def _names(place: Path, suffix: str, numbers: dict) -> Iterator[Path]:
    """Names for the result of a picture, the best first: a.png, a.bmp.png, a-2.png, ...

    Args:
        place: Of the picture.
        suffix: Of the result.
        numbers: The next one of each name, since all before it are taken.
    """
    best = place.with_suffix(suffix)
    yield best
    if place.suffix.lower() != suffix.lower():
        yield place.with_name(place.name + suffix)
    for number in itertools.count(numbers.get(str(best).lower(), 2)):
        numbers[str(best).lower()] = number + 1
        yield place.with_name(f"{place.stem}-{number}{suffix}")


def _key(file: Path) -> str:
    """Equal for files that some file system takes for one, as a.png and A.png."""
    return str(file.resolve()).lower()


def plan(
    inputs: Iterable[str],
    out: Path,
    outputs: Sequence[int] = (1,),
    suffix: str | None = None,
    compare: bool = False,
    confidence: bool = False,
    keep: Sequence[Path] = (),
) -> list[Job]:
    """Decide what is read and what is written, before anything is done.

    Where two pictures would have one result, as ``a.bmp`` and ``a.png`` have, the one that keeps
    its name goes first, and the other gets one that differs, ``a.bmp.png`` here. Its job says so.

    Args:
        inputs: Files, folders (with what is below them, but not with hidden files) and patterns,
            ``**`` included.
        out: Folder of the results, with the folders' structure. It may lie in one of the folders:
            what is in it is no input.
        outputs: Outputs of the colorizer. With more than one, ``.G1`` and so on is put before the
            suffix.
        suffix: Of the results; None for the source's, or ``.png`` where that cannot hold colour.
        compare: Whether ``<name>.compare<suffix>`` is wanted as well.
        confidence: Whether ``<name>.confidence.png`` is.
        keep: Further files that no result may replace.

    Raises:
        DataError: Nothing is found, a result would replace a source or one of those to keep, or
            ``out`` is a file.
    """
    if out.exists() and not out.is_dir():
        raise DataError(f"{out} is no folder, so no results can be put in it; name another.")
    places: dict = {}
    for name in inputs:
        for source, place in _expand(name, out):
            places.setdefault(os.path.abspath(source), (source, place))
    found = list(places.values())

    def job(source: Path, target: Path, note: str = "") -> Job:
        targets = (target,)
        if len(outputs) > 1:
            targets = tuple(target.with_suffix(f".G{i}{target.suffix}") for i in outputs)
        comparison = target.with_suffix(f".compare{target.suffix}") if compare else None
        doubt = target.with_suffix(".confidence.png") if confidence else None
        return Job(source, targets, comparison, note, doubt)

    jobs: dict = {}
    owners: dict = {}
    numbers: dict = {}
    seen = set()
    suffixes = [suffix or output_suffix(source) for source, _ in found]
    for i in sorted(range(len(found)), key=lambda i: found[i][1].suffix != suffixes[i]):
        source, place = found[i]
        note, way = "", (os.path.realpath(source), place.with_suffix(suffixes[i]))
        if way in seen:  # one picture by two ways, to one place
            continue
        seen.add(way)
        for name in _names(place, suffixes[i], numbers):
            new = job(source, out / name, note and f"its result is {name.name}, since {note}")
            other = next((owners[k] for k in map(_key, new.files) if k in owners), None)
            if other is None:
                jobs[i] = new
                owners.update({_key(file): new for file in new.files})
                break
            note = (
                note or f"{printable(other.targets[0].name)} is that of {printable(other.source)}"
            )
    sources = {Path(os.path.realpath(source)) for source in (*keep, *(s for s, _ in found))}
    for file in (file for job in jobs.values() for file in job.files):
        if file.resolve() in sources:
            raise DataError(f"{file} is a source and would be overwritten; change --out.")
    return [jobs[i] for i in sorted(jobs)]
