"""A training behind a table or figure: what it is, and how it gets done."""

import json
import multiprocessing
import os
import sys
import traceback
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import metadata
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.distributed.elastic.utils.distributed import get_free_port
from torch.multiprocessing import ProcessContext, start_processes
from torch.multiprocessing.spawn import ProcessException
from tqdm import tqdm

from spynco_mm import __version__
from spynco_mm.engine import launch, read_history
from spynco_mm.utils.console import one_sentence_errors
from spynco_mm.utils.files import lock_folder, write_atomically


def versions() -> dict:
    """The packages that numbers depend on."""
    names = ("torch", "torchvision", "mmengine", "mmagic", "numpy", "scikit-image")
    found = {name: metadata.version(name) for name in names}
    return {"python": sys.version.split()[0], "spynco_mm": __version__, **found}


# ------------------------------------------------------------------ in the training's processes


class Progress(Hook):
    """Tells another process how many epochs are done.

    Args:
        connection: The other end of it.
    """

    def __init__(self, connection: Connection):
        self.connection = connection

    @master_only
    def before_train(self, runner: Runner) -> None:
        """Where it starts."""
        self.connection.send(runner.epoch)

    @master_only
    def after_train_epoch(self, runner: Runner) -> None:
        """One more."""
        self.connection.send(runner.epoch + 1)


def _train(
    rank: int,
    processes: int,
    port: int,
    config: Path,
    folder: Path,
    connection: Connection,
) -> None:
    """Train a config to its end, as tools/train.py does, as one of some processes."""
    with open(folder / "train.log", "a") as log:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(log.fileno(), stream.fileno())
    if processes > 1:
        place = dict(RANK=rank, LOCAL_RANK=rank, WORLD_SIZE=processes)
        place.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
        os.environ.update({key: str(value) for key, value in place.items()})
        if torch.cuda.device_count() < processes:
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
            if "OMP_NUM_THREADS" not in os.environ:
                torch.set_num_threads(max(1, (os.cpu_count() or 1) // processes))
    try:
        with one_sentence_errors():
            launcher = "pytorch" if processes > 1 else "none"
            cfg = launch.load_config(str(config), str(folder), launcher=launcher)
            launch.enable_compile(cfg, "auto")
            launch.resume_from(cfg, "auto")
            runner = Runner.from_cfg(cfg)
            launch.check_train_data(runner)
            runner.register_hook(Progress(connection))
            runner.train()
    except Exception:
        traceback.print_exc()  # into the log
        sys.exit(1)


# ------------------------------------------------------------------ seen from outside


@dataclass
class Run:
    """One training, in a folder of its own, with its config beside the folder.

    Args:
        name: What it is called in the progress bar.
        cfg: Its config, complete.
        folder: Work directory.
        gpus: Processes.
    """

    name: str
    cfg: Config
    folder: Path
    gpus: int = 1
    _processes: ProcessContext | None = field(default=None, init=False, repr=False)
    _stopped: bool = field(default=False, init=False, repr=False)

    @property
    def config(self) -> Path:
        """The file of the config; tools/train.py takes it, too."""
        return self.folder.with_name(f"{self.folder.name}.py")

    @property
    def identity(self) -> dict:
        """What a result says about the training behind it."""
        return dict(config=str(self.config), seed=self.cfg.randomness.seed, processes=self.gpus)

    @property
    def epochs(self) -> list[int]:
        """The epochs that are evaluated."""
        loop = self.cfg.train_cfg
        every, last = loop.get("val_interval", 1), loop.max_epochs
        return sorted({*range(every, last + 1, every), last})

    def check(self) -> None:
        """Say in one sentence if the folder is another run's."""
        file = self.folder / "run.json"
        if not file.is_file():
            return
        other = []
        if json.loads(file.read_text())["processes"] != self.gpus:
            other.append("processes in run.json")
        if not self.config.is_file():
            other.append(f"{self.config.name} is missing")
        else:
            there, here = Config.fromfile(self.config).to_dict(), self.cfg.to_dict()
            other += [
                f"{key} in {self.config.name}"
                for key in sorted({*here, *there})
                if here.get(key) != there.get(key)
            ]
        if other:
            raise ValueError(
                f"{self.folder} was made with other settings ({', '.join(other)}); remove it, or "
                "choose another --work-dir."
            )

    def history(self) -> dict[int, dict]:
        """The evaluations so far, by epoch."""
        return {entry["epoch"]: entry for entry in read_history(self.folder)}

    def finished(self) -> bool:
        """Whether all its evaluations are there."""
        return set(self.epochs) <= set(self.history())

    def checkpoint(self, epoch: int) -> Path:
        """The weights after an epoch."""
        file = self.folder / f"epoch_{epoch}.pth"
        if not file.is_file():
            raise FileNotFoundError(
                f"There is no checkpoint of epoch {epoch} in {self.folder}; remove that folder to "
                "train again."
            )
        return file

    def train(self, title: str = "") -> None:
        """Train it to its end, from where it stopped; nothing if it is finished.

        Raises:
            ChildProcessError: The training ended with an error; the message has the last lines of
                its log.
        """
        self.check()
        with tqdm(total=self.epochs[-1], desc=f"{title}{self.name}", unit="epoch") as bar:
            if self.finished():
                bar.update(bar.total)
                return
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomically(self.config, self.cfg.pretty_text.encode())
            text = json.dumps({**self.identity, "versions": versions()}, indent=2)
            write_atomically(self.folder / "run.json", (text + "\n").encode())
            with lock_folder(self.folder):
                try:
                    self._watch(bar)
                except ProcessException as error:
                    log = self.folder / "train.log"
                    last = log.read_text().splitlines()[-20:] if log.is_file() else []
                    raise ChildProcessError(
                        f"The training of {self.name} failed; its log is {log} and ends with:\n"
                        + "\n".join(last)
                    ) from error

    def _watch(self, bar: tqdm) -> None:
        """Start the processes and wait for them; where one fails, the others are ended."""
        progress, theirs = multiprocessing.Pipe(duplex=False)
        where = (self.gpus, get_free_port(), self.config, self.folder, theirs)
        # New processes, which start from nothing as from the command line, and end with this one.
        self._processes = start_processes(_train, where, self.gpus, join=False)
        theirs.close()
        if self._stopped:
            self.stop()
        going_on = True
        while going_on:
            going_on = not self._processes.join(timeout=0.5)
            with suppress(EOFError):  # The training has ended.
                while progress.poll():
                    bar.update(progress.recv() - bar.n)

    def stop(self) -> None:
        """End a training that goes on in another thread; it can be resumed."""
        self._stopped = True  # First, for a training that is just being started.
        for process in self._processes.processes if self._processes else ():
            process.terminate()


def train(runs: Sequence[Run], jobs: int = 1) -> None:
    """Bring runs to their end, some of them side by side; those that are finished cost nothing.

    Where one fails, or this process is interrupted, the others are stopped; all can be resumed.

    Args:
        runs: The runs; all folders are looked at before the first training.
        jobs: How many at once. More than one share the processors between them.
    """
    for run in runs:
        run.check()
    if jobs > 1:
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // jobs)))
    with ThreadPoolExecutor(jobs) as pool:
        futures = [pool.submit(run.train, f"[{i}/{len(runs)}] ") for i, run in enumerate(runs, 1)]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for run in runs:
                run.stop()
            raise
