"""The paper's experiments on one data set at one size: which trainings there are."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mmagic.registry import DATASETS
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.registry import init_default_scope

from spynco_mm.datasets import DataError
from spynco_mm.datasets.images import IMAGE_SUFFIXES
from spynco_mm.engine import launch

from .runs import Run

#: The configs of the plugin, and those of this package.
CONFIGS = Path(__file__).resolve().parents[2] / "configs"
OWN_CONFIGS = Path(__file__).resolve().parent / "configs"

#: The data sets that have configs of their own; any other is a folder.
NAMED = ("cifar10", "ucmerced", "cezanne", "landscape", "demo")
#: The trainings by name, and the configs they start from: configs/<...>_<data set>.py.
VARIANTS = {
    "spynco": "spynco",
    "exact": "spynco_exact",
    "colcycle": "colcycle",
    "cyclegan": "cyclegan",
    "l1": "spynco",
    "exact_l1": "spynco_exact",
    "no_contours": "spynco",
    "l1_no_contours": "spynco",
}
#: Those whose model is changed by configs/_base_/ablations.py. They are only for the tables, which
#: look at the first half of the training (section 6.2.1).
ABLATIONS = ("l1", "exact_l1", "no_contours", "l1_no_contours")
SPLITS = ("train", "val", "test")
PRESETS = ("small", "medium", "paper")


def build_dataset(config: dict) -> BaseDataset:
    """A data set out of a config, with its pictures looked at."""
    init_default_scope("mmagic")
    return DATASETS.build(config)


@dataclass
class Study:
    """The paper's experiments on one data set at one size.

    Args:
        data: ``cifar10``, ``ucmerced``, ``cezanne``, ``landscape``, ``demo``, or a folder of
            pictures, of which 80 % are for training.
        preset: ``paper``, as published, or ``small`` or ``medium``, for two CPU cores
            (``configs/small.py``, ``configs/medium.py``).
        gpus: Processes per training.
        jobs: Trainings side by side.
        seeds: Seeds of the trainings.
        epochs: Length of the trainings, instead of the preset's; a tenth of it lies between two
            evaluations.
        classifier_epochs: Length of the trainings of classifiers, instead of the preset's.
        cfg_options: Further options for every training of a colorizer, dotted keys and values.
        work_dir: Folder for everything.
    """

    data: str
    preset: str = "small"
    gpus: int = 1
    jobs: int = 1
    seeds: Sequence[int] = (0,)
    epochs: int | None = None
    classifier_epochs: int | None = None
    cfg_options: dict = field(default_factory=dict)
    work_dir: Path = Path("work_dirs/reproduce")
    _counts: dict = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self):
        if self.preset not in PRESETS:
            raise ValueError(
                f"There is no preset '{self.preset}'; use one of {', '.join(PRESETS)}."
            )
        if self.epochs is not None and self.epochs < 2:
            raise ValueError(f"--epochs must be at least 2, got {self.epochs}.")
        seeds = len(set(self.seeds)) == len(self.seeds) > 0
        if self.gpus < 1 or self.jobs < 1 or not seeds:
            raise ValueError(
                f"It takes at least one process, one job and different seeds, not --gpus "
                f"{self.gpus} --jobs {self.jobs} --seeds {' '.join(map(str, self.seeds))}."
            )
        if self.data not in NAMED and not Path(self.data).is_dir():
            raise DataError(
                f"There is no data set '{self.data}' and no such folder; use "
                f"{', '.join(NAMED)}, or a folder of pictures."
            )

    @property
    def kind(self) -> str:
        """The part of a config's name that says the data set."""
        return self.data if self.data in NAMED else "folder"

    @property
    def folder(self) -> Path:
        """Where the runs and results of this study lie."""
        return Path(self.work_dir, f"{Path(self.data).resolve().name}_{self.preset}")

    @property
    def size(self) -> Config | None:
        """The preset's config, unless it is the paper's, which changes nothing."""
        published = self.preset == "paper"
        return None if published else Config.fromfile(OWN_CONFIGS / f"{self.preset}.py")

    # ------------------------------------------------------------------ the data

    def _published(self, variant: str) -> Config:
        """The config of a training as it is in configs/, on this study's pictures, at its size."""
        cfg = Config.fromfile(CONFIGS / f"{VARIANTS[variant]}_{self.kind}.py")
        if variant in ABLATIONS:
            changes = Config.fromfile(CONFIGS / "_base_" / "ablations.py")
            cfg.merge_from_dict(dict(model=changes[variant]))
        if size := self.size:
            cfg.merge_from_dict(size.every)
            cfg.merge_from_dict(dict(model=size.models.get(variant, size.models.others)))
            cfg.merge_from_dict(size.datasets[self.kind])
        if self.kind == "folder":
            root = Path(self.data).resolve()
            pictures = dict(
                data_root=str(root),
                class_folders=not any(p.suffix.lower() in IMAGE_SUFFIXES for p in root.iterdir()),
                # Beside the results, since the pictures' folder may be write-protected.
                split_file=str(self.folder.resolve() / "split.json"),
            )
            for split in SPLITS:
                cfg[f"{split}_dataloader"].dataset.update(pictures)
        return cfg

    def prepare(self) -> None:
        """Look at the pictures, so that whatever is wrong with them shows before any training."""
        if self._counts:
            return
        # For its errors: options that no run reads.
        launch.load_config(CONFIGS / f"spynco_{self.kind}.py", cfg_options=self.cfg_options)
        self.folder.mkdir(parents=True, exist_ok=True)
        cfg = self._published("spynco")
        cfg.merge_from_dict(self.cfg_options)
        for split in ("train", "val"):
            dataset = build_dataset(cfg[f"{split}_dataloader"].dataset)
            self._counts[split] = len(dataset)
            self.classes = dataset.metainfo.get("classes")

    def choose_pictures(self, cfg: Config, limits: dict[str, int]) -> None:
        """At most so many pictures of each split, spread evenly over the data set."""
        if self.kind == "demo":  # It has few.
            return
        for split, limit in limits.items():
            count = self._counts["train" if split == "train" else "val"]
            if count > limit:
                chosen = [i * count // limit for i in range(limit)]
                cfg[f"{split}_dataloader"].dataset.indices = chosen

    # ------------------------------------------------------------------ the trainings

    def config(self, variant: str) -> Config:
        """The complete config of a training."""
        self.prepare()
        cfg = self._published(variant)
        self.choose_pictures(cfg, self.size.pictures if self.size else {})
        loop = cfg.train_cfg
        if self.epochs:
            loop.update(max_epochs=self.epochs, val_interval=max(1, self.epochs // 10))
        if variant in ABLATIONS:
            # They stop halfway, on the schedule of a whole run.
            cfg.param_scheduler[0].end = loop.max_epochs
            loop.max_epochs = self.table_epochs(loop.max_epochs)
        # Every evaluated epoch is kept, for the figures and the classifiers.
        cfg.default_hooks.checkpoint.update(interval=loop.val_interval, max_keep_ckpts=-1)
        # Ten thousand photographs would make large histories, and need no interval.
        cfg.val_evaluator[0].per_photograph = self._counts["val"] <= 1000
        cfg.val_evaluator[0].uint8_mse = True  # beside the paper's numbers
        cfg.merge_from_dict(self.cfg_options)
        return cfg

    def table_epochs(self, epochs: int) -> int:
        """Until when Tables 1 and 2 average: 50 of 100 epochs, and all 50 of Landscape's."""
        return epochs if self.kind == "landscape" else epochs // 2

    def run(self, variant: str, seed: int) -> Run:
        """A training of this study."""
        cfg = self.config(variant)
        cfg.randomness.seed = seed
        folder = self.folder / "runs" / f"{variant}_seed{seed}"
        return Run(f"{variant}, seed {seed}", cfg, folder, self.gpus)

    def runs(self, variants: Sequence[str]) -> list[Run]:
        """Trainings of this study, seed by seed."""
        return [self.run(v, seed) for seed in self.seeds for v in variants]
