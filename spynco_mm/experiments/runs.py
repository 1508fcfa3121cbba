"""The trainings behind the paper's tables and figures: which there are, and how they get done."""

import fcntl
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import IO

from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.registry import init_default_scope
from tqdm import tqdm

from spynco_mm.datasets import DataError
from spynco_mm.datasets.images import IMAGE_SUFFIXES
from spynco_mm.engine import read_history
from spynco_mm.engine.launch import ROOT
from spynco_mm.utils.files import write_atomically

DATASETS = ("cifar10", "ucmerced", "cezanne", "landscape", "demo")

#: The trainings by name; ``{}`` is the data set.
VARIANTS = {
    "spynco": "spynco_{}",
    "exact": "spynco_exact_{}",
    "colcycle": "colcycle_{}",
    "cyclegan": "cyclegan_{}",
    "l1": "ablations/spynco_l1_{}",
    "no_contours": "ablations/spynco_no_contours_{}",
    "l1_no_contours": "ablations/spynco_l1_no_contours_{}",
}
#: The demo's own config has exact consistency.
DEMO = {"spynco": "spynco_plain_demo", "exact": "spynco_demo"}
#: Only for the tables, which look at the first half of the training (section 6.2.1).
HALF = ("l1", "no_contours", "l1_no_contours")

#: The size for two CPU cores: 32x32 pixels, a quarter of the filters, 400 pictures, 20 epochs.
SMALL_EPOCHS = 20
SMALL_WIDTH = 16
SMALL_SIZE = 32
SMALL_TRAIN, SMALL_TEST = 400, 200


def versions() -> dict:
    """The packages that numbers depend on."""
    from importlib import metadata

    from spynco_mm import __version__

    names = ("torch", "torchvision", "mmengine", "mmagic", "numpy", "scikit-image")
    found = {name: metadata.version(name) for name in names}
    return {"python": sys.version.split()[0], "spynco_mm": __version__, **found}


def build_dataset(config: dict) -> BaseDataset:
    """A data set out of a config, with its pictures looked at."""
    from mmagic.registry import DATASETS as registry

    init_default_scope("mmagic")
    return registry.build(config)


@dataclass
class Run:
    """One training, in a folder of its own.

    Args:
        name: What it is called in the progress bar.
        config: Config file.
        options: Dotted keys and values, as for ``--cfg-options``.
        seed: Seed.
        folder: Work directory.
        gpus: Processes.
        user_options: Further options, as ``KEY=VALUE``.
    """

    name: str
    config: Path
    options: dict
    seed: int
    folder: Path
    gpus: int = 1
    user_options: Sequence[str] = ()
    _process: subprocess.Popen | None = field(default=None, init=False, repr=False)
    _stopped: bool = field(default=False, init=False, repr=False)

    @property
    def identity(self) -> dict:
        """What must be the same for a folder to be this run."""
        return dict(
            config=os.path.relpath(self.config, ROOT),
            cfg_options=[
                *(f"{key}={value}" for key, value in self.options.items()),
                *self.user_options,
            ],
            seed=self.seed,
            processes=self.gpus,
        )

    @cached_property
    def cfg(self) -> Config:
        """The config with all options."""
        from spynco_mm.utils.console import CfgOptions

        cfg = Config.fromfile(self.config)
        options = (option.split("=", 1) for option in self.identity["cfg_options"])
        cfg.merge_from_dict({key: CfgOptions._parse_iterable(value) for key, value in options})
        return cfg

    @property
    def epochs(self) -> "list[int]":
        """The epochs that are evaluated."""
        loop = self.cfg.train_cfg
        every, last = loop.get("val_interval", 1), loop.max_epochs
        return sorted({*range(every, last + 1, every), last})

    def check(self) -> None:
        """Say in one sentence if the folder is another run's."""
        file = self.folder / "run.json"
        if not file.is_file():
            return
        there = json.loads(file.read_text())
        other = [key for key in self.identity if there.get(key) != self.identity[key]]
        if other:
            raise ValueError(
                f"{self.folder} was made with other settings ({', '.join(other)} in run.json); "
                "remove it, or choose another --work-dir."
            )

    def history(self) -> "dict[int, dict]":
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

    def resume_point(self) -> Path | None:
        """The newest checkpoint up to which no evaluation is missing.

        A run that is killed while it evaluates has a checkpoint of that epoch but no scores, and
        would go on behind it.
        """
        evaluated, found = set(self.history()), []
        for file in self.folder.glob("epoch_*.pth"):
            epoch = int(file.stem.split("_")[1])
            if {e for e in self.epochs if e <= epoch} <= evaluated:
                found.append((epoch, file))
        return max(found)[1] if found else None

    def train(self, title: str = "") -> None:
        """Train it to its end, from where it stopped; nothing if it is finished.

        Raises:
            ChildProcessError: The training ended with an error; the message has its last lines.
        """
        self.check()
        bar = tqdm(total=self.epochs[-1], desc=f"{title}{self.name}", unit="epoch")
        with bar:
            if self.finished():
                bar.update(bar.total)
                return
            text = json.dumps({**self.identity, "versions": versions()}, indent=2)
            write_atomically(self.folder / "run.json", (text + "\n").encode())
            if self.gpus > 1:
                command = ["bash", f"{ROOT}/tools/dist_train.sh", str(self.config), str(self.gpus)]
            else:
                command = [sys.executable, "-u", f"{ROOT}/tools/train.py", str(self.config)]
            command += ["--work-dir", str(self.folder), "--seed", str(self.seed)]
            start = self.resume_point()
            if start is not None:
                command += ["--resume", str(start)]
            command += ["--cfg-options", *self.identity["cfg_options"]]
            self._watch(command, bar)

    def stop(self) -> None:
        """End a training that goes on in another thread; it can be resumed."""
        self._stopped = True  # First, for a training that is just being started.
        if self._process is not None:
            self._process.terminate()

    def _lock(self) -> IO:
        """The folder, for one training at a time; the training itself holds it until its end."""
        lock = open(self.folder / ".lock", "w")  # noqa: SIM115
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise ValueError(
                f"{self.folder} is being trained by another process; wait for it, or end it."
            ) from None
        return lock

    def _watch(self, command: list, bar: tqdm) -> None:
        log = self.folder / "train.log"
        environment = {**os.environ, "PYTHON": sys.executable}  # for dist_train.sh
        with (
            self._lock() as lock,
            open(log, "a") as file,
            subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env=environment,
                pass_fds=[lock.fileno()],
            ) as self._process,
        ):
            if self._stopped:
                self.stop()
            last = []
            for line in self._process.stdout:
                file.write(line)
                last = [*last[-19:], line]
                epoch = re.search(r"Epoch\(train\)\s+\[(\d+)\]\[\s*(\d+)/(\d+)\]", line)
                if epoch:
                    done, i, n = map(int, epoch.groups())
                    bar.update(done - 1 + i // n - bar.n)
        if self._process.returncode:
            raise ChildProcessError(
                f"The training of {self.name} failed; its log is {log} and ends with:\n"
                + "".join(last)
            )


@dataclass
class Study:
    """The paper's experiments on one data set at one size.

    Args:
        data: ``cifar10``, ``ucmerced``, ``cezanne``, ``landscape``, ``demo``, or a folder of
            pictures, of which 80 % are for training.
        preset: ``paper``, as published, or ``small``, for two CPU cores.
        gpus: Processes per training.
        jobs: Trainings side by side.
        seeds: Seeds of the trainings.
        epochs: Length of the trainings, instead of the preset's; a tenth of it lies between two
            evaluations.
        classifier_epochs: Length of the trainings of classifiers, instead of the preset's.
        cfg_options: Further options for every training of a colorizer.
        work_dir: Folder for everything.
    """

    data: str
    preset: str = "small"
    gpus: int = 1
    jobs: int = 1
    seeds: Sequence[int] = (0,)
    epochs: int | None = None
    classifier_epochs: int | None = None
    cfg_options: Sequence[str] = ()
    work_dir: Path = Path("work_dirs/reproduce")
    _counts: dict = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self):
        if self.preset not in ("small", "paper"):
            raise ValueError(f"There is no preset '{self.preset}'; use 'small' or 'paper'.")
        if self.epochs is not None and self.epochs < 2:
            raise ValueError(f"--epochs must be at least 2, got {self.epochs}.")
        seeds = len(set(self.seeds)) == len(self.seeds) > 0
        if self.gpus < 1 or self.jobs < 1 or not seeds:
            raise ValueError(
                f"It takes at least one process, one job and different seeds, not --gpus "
                f"{self.gpus} --jobs {self.jobs} --seeds {' '.join(map(str, self.seeds))}."
            )
        if self.data not in DATASETS and not Path(self.data).is_dir():
            raise DataError(
                f"There is no data set '{self.data}' and no such folder; use "
                f"{', '.join(DATASETS)}, or a folder of pictures."
            )

    @property
    def kind(self) -> str:
        """The part of a config's name that says the data set."""
        return self.data if self.data in DATASETS else "folder"

    @property
    def folder(self) -> Path:
        """Where the runs and results of this study lie."""
        return Path(self.work_dir, f"{Path(self.data).resolve().name}_{self.preset}")

    def config(self, variant: str) -> Path:
        """The config file of a training."""
        name = VARIANTS[variant].format(self.kind)
        return ROOT / "configs" / f"{DEMO.get(variant, name) if self.kind == 'demo' else name}.py"

    # ------------------------------------------------------------------ the data

    def data_options(self) -> dict:
        """Options that say which pictures, and how large."""
        options = {}
        if self.kind == "folder":
            root = Path(self.data).resolve()
            flat = any(path.suffix.lower() in IMAGE_SUFFIXES for path in root.iterdir())
            for loader in ("train", "val", "test"):
                options[f"{loader}_dataloader.dataset.data_root"] = str(root)
                options[f"{loader}_dataloader.dataset.class_folders"] = not flat
                # Beside the results, since the pictures' folder may be write-protected.
                split = self.folder.resolve() / "split.json"
                options[f"{loader}_dataloader.dataset.split_file"] = str(split)
        if self.preset == "small":
            options["train_dataloader.batch_size"] = 8
            for loader in ("train", "val", "test"):
                options[f"{loader}_dataloader.num_workers"] = 0
                options[f"{loader}_dataloader.persistent_workers"] = False
                if self.kind not in ("cifar10", "demo"):
                    options[f"{loader}_dataloader.dataset.size"] = SMALL_SIZE
            if self.kind == "folder":
                options["train_dataloader.dataset.size"] = SMALL_SIZE * 9 // 8
                for crop in (0, 1):
                    key = f"train_dataloader.dataset.pipeline.{crop}.crop_size"
                    options[key] = f"({SMALL_SIZE},{SMALL_SIZE})"
            if self.kind == "demo":
                options["train_dataloader.dataset.crops_per_photo"] = SMALL_TRAIN // 10
        return options

    def prepare(self) -> None:
        """Look at the pictures, so that whatever is wrong with them shows before any training."""
        if self._counts:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        run = Run("data", self.config("spynco"), self.data_options(), 0, self.folder)
        run.user_options = self.cfg_options
        for split in ("train", "val"):
            dataset = build_dataset(run.cfg[f"{split}_dataloader"].dataset)
            self._counts[split] = len(dataset)
            self.classes = dataset.metainfo.get("classes")

    def _subset(self) -> dict:
        """At the small size, pictures spread evenly over the data set."""
        options = {}
        if self.preset == "small" and self.kind != "demo":
            limits = dict(train=SMALL_TRAIN, val=SMALL_TEST, test=SMALL_TEST)
            for loader, limit in limits.items():
                count = self._counts["train" if loader == "train" else "val"]
                if count > limit:
                    indices = ",".join(str(i * count // limit) for i in range(limit))
                    options[f"{loader}_dataloader.dataset.indices"] = f"[{indices}]"
        return options

    # ------------------------------------------------------------------ the trainings

    def options(self, variant: str) -> dict:
        """Options of a training, for its preset."""
        self.prepare()
        options = {**self.data_options(), **self._subset()}
        loop = Config.fromfile(self.config(variant)).train_cfg
        epochs, interval = loop.max_epochs, loop.val_interval
        if self.epochs or self.preset == "small":
            epochs = self.epochs or SMALL_EPOCHS
            interval = max(1, epochs // 10)
            options["train_cfg.val_interval"] = interval
        # Those of a table that stop halfway follow the schedule of a whole run.
        options["param_scheduler.0.end"] = epochs
        options["train_cfg.max_epochs"] = self.table_epochs(epochs) if variant in HALF else epochs
        # Every evaluated epoch is kept, for the figures and the classifiers.
        options["default_hooks.checkpoint.interval"] = interval
        options["default_hooks.checkpoint.max_keep_ckpts"] = -1
        # Ten thousand photographs would make large histories, and need no interval.
        options["val_evaluator.0.per_photograph"] = self._counts["val"] <= 1000
        if self.preset == "small":
            options["model.generator.base_channels"] = SMALL_WIDTH
            if variant == "cyclegan":
                options["model.generator.num_blocks"] = 6
                options["model.discriminator.base_channels"] = SMALL_WIDTH
            else:
                widths = ",".join(str(SMALL_WIDTH * 2**i) for i in range(4))
                options["model.discriminator.channels"] = f"({widths})"
        return options

    def table_epochs(self, epochs: int) -> int:
        """Until when Tables 1 and 2 average: 50 of 100 epochs, and all 50 of Landscape's."""
        return epochs if self.kind == "landscape" else epochs // 2

    def run(self, variant: str, seed: int) -> Run:
        """A training of this study."""
        return Run(
            f"{variant}, seed {seed}",
            self.config(variant),
            self.options(variant),
            seed,
            self.folder / "runs" / f"{variant}_seed{seed}",
            self.gpus,
            tuple(self.cfg_options),
        )

    def runs(self, variants: Sequence[str], seeds: Sequence[int] | None = None) -> "list[Run]":
        """Trainings of this study, seed by seed."""
        return [self.run(v, seed) for seed in (seeds or self.seeds) for v in variants]
