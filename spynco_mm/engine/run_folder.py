"""A work directory belongs to one run at a time, which has a name.

A new run writes its name to ``run_id`` before its first iteration, and all its checkpoints carry
it. So whoever looks for a checkpoint to go on with knows which ones are this run's, even if the
run was killed before it wrote any. What another run has left in the folder is set aside, whole,
and nothing of it is mixed with the new files.
"""

import re
import secrets
import time
from itertools import count
from pathlib import Path

from spynco_mm.utils.checkpoint import CheckpointError, read_checkpoint
from spynco_mm.utils.files import write_atomically

from .history_hook import FILE as HISTORY

ID_FILE = "run_id"
CHECKPOINTS = ("epoch_*.pth", "iter_*.pth", "best_*.pth")
#: What a run writes beside its checkpoints and its log folders, which are named by the time.
RESULTS = ("last_checkpoint", HISTORY, "results.json", "pyramid.png", "vis", "*.pth.part")


def _name(text: object) -> str | None:
    """A run's name, which becomes part of a folder's, or None for anything else."""
    return (
        text if isinstance(text, str) and re.fullmatch(r"\d{8}_\d{6}_[0-9a-f]{4}", text) else None
    )


def run_in(checkpoint: dict) -> str | None:
    """The run that a loaded checkpoint is of; None for one of an older version."""
    meta = checkpoint.get("meta")
    return _name(meta.get("run")) if isinstance(meta, dict) else None


def present_run(work_dir: str | Path) -> str | None:
    """The run that a work directory is of; None before the first one, or for an older version's."""
    file = Path(work_dir, ID_FILE)
    return _name(file.read_text().strip()) if file.is_file() else None


def epoch_of(checkpoint: str | Path) -> int:
    """The number in a checkpoint's name; -1 if it has none."""
    number = Path(checkpoint).stem.rpartition("_")[2]
    return int(number) if number.isdigit() else -1


def _find(folder: Path, patterns: "tuple[str, ...]") -> "list[Path]":
    return sorted({path for pattern in patterns for path in folder.glob(pattern)})


def resume_point(work_dir: str | Path) -> "tuple[Path | None, list[str]]":
    """The newest checkpoint of the run that a work directory is of.

    Where the run has no name, it is what mmengine's ``last_checkpoint`` says if that was written
    after the one with the highest number, which then is of a longer run before.

    Returns:
        The checkpoint, None if the run has none yet; and the names of newer ones of other runs.

    Raises:
        CheckpointError: The newest one cannot be read, so that nobody knows whose it is.
    """
    folder, run = Path(work_dir), present_run(work_dir)
    last = folder / "last_checkpoint"
    last = Path(last.read_text()) if last.is_file() else None
    others = []
    for path in sorted(_find(folder, CHECKPOINTS[:2]), key=epoch_of, reverse=True):
        if epoch_of(path) < 0:
            continue
        if run is None and last and last.is_file():
            path = last if last.stat().st_mtime_ns > path.stat().st_mtime_ns else path
        if run_in(read_checkpoint(path)) == run or run is None:
            return path, others
        others.append(path.name)
    if not others and last and last.is_file():  # Other people's hooks may write elsewhere.
        return last, []
    return None, others


def leave_unnamed(work_dir: str | Path) -> None:
    """Take the name of an earlier run from a folder in which one begins that gives itself none."""
    if present_run(work_dir):  # Another program's file of that name is not touched.
        Path(work_dir, ID_FILE).unlink()


def is_of(checkpoint: Path, run: str | None) -> bool:
    """Whether a checkpoint can be read and is of a run."""
    try:
        return run_in(read_checkpoint(checkpoint)) == run
    except CheckpointError:
        return False


def begin(
    work_dir: str | Path,
    loaded: str | Path | None = None,
    resumes: bool = False,
    run: str | None = None,
    epoch: int = 0,
) -> "tuple[str | None, str]":
    """Make a work directory the folder of a run that is about to start or to go on.

    Args:
        work_dir: The folder.
        loaded: The checkpoint that the run starts from, if any.
        resumes: Whether it goes on with what it loaded. From a checkpoint of another folder, a new
            run begins in this one.
        run: The run that wrote that checkpoint.
        epoch: The epoch it goes on from.

    Returns:
        The name of the run, None for an older version's; and a sentence about what was set aside,
        or nothing.
    """
    folder = Path(work_dir)
    before = present_run(folder)
    stay = {Path(loaded).resolve()} if loaded else set()
    if resumes and Path(loaded).resolve().parent == folder.resolve():
        # A run that goes back to an earlier epoch makes the later ones anew, so they do not stay,
        # nor does the best one if it is of these.
        stay |= {
            path.resolve()
            for path in _find(folder, CHECKPOINTS)
            if epoch_of(path) <= epoch
            if path.resolve() not in stay and is_of(path, run)  # which reads it
        }
        if before in (None, run):
            stay |= {path.resolve() for path in _find(folder, RESULTS)}
    else:
        run = f"{time.strftime('%Y%m%d_%H%M%S')}_{secrets.token_hex(2)}"
    aside = [path for path in _find(folder, CHECKPOINTS + RESULTS) if path.resolve() not in stay]
    sentence = ""
    if aside:
        target = _place(folder, f"earlier_{before}" if before else "earlier", aside)
        for path in aside:
            path.rename(target / path.name)
        names = ", ".join(path.name for path in aside)
        sentence = (
            f"{folder} had files of another run or of later epochs, which are in {target} now: "
            f"{names}."
        )
    if run is None:
        (folder / ID_FILE).unlink(missing_ok=True)
    elif run != before:
        write_atomically(folder / ID_FILE, f"{run}\n".encode())
    return run, sentence


def _place(folder: Path, name: str, files: "list[Path]") -> Path:
    """A sub-folder in which none of some files is yet."""
    for i in count(1):
        place = folder / (name if i == 1 else f"{name}_{i}")
        if not any((place / path.name).exists() for path in files):
            place.mkdir(exist_ok=True)
            return place
