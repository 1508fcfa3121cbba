"""Table 3 and figure 7: what classifiers learn from colorized images (section 6.2.3)."""

import copy
import shutil
from pathlib import Path

import numpy as np
from mmengine.config import Config
from mmengine.runner import Runner

from spynco_mm.datasets import DataError
from spynco_mm.evaluation.tables import markdown_table

from .chord import chord_diagram, top_quarter
from .colorization import describe
from .results import TABLE3, cell, mean_and_spread, save
from .runs import Run
from .study import OWN_CONFIGS, Study, build_dataset

#: The configs of the classifiers of section 5.3; other data sets take CIFAR-10's.
CONFIG_OF = {"ucmerced": "vgg16"}
REAL = ("real_color", "real_gray")


def domain(epoch: int) -> str:
    """Name of the set that G_1 colorized after an epoch."""
    return f"G1_{epoch:03d}"


def check(study: Study) -> None:
    """Say before any training if the data cannot be classified.

    Raises:
        DataError: The pictures have no classes, only one, or one that a split lacks.
    """
    study.prepare()
    run = study.run("spynco", study.seeds[0])
    found = {}
    for split in ("train", "test"):
        dataset = build_dataset(_dataset(study, run, split))
        infos = [dataset.get_data_info(i) for i in range(len(dataset))]
        if not infos or any("gt_label" not in info for info in infos):
            raise DataError(
                f"Table 3 and figure 7 need labels, but {study.data} has none; use cifar10, "
                "ucmerced, demo, or a folder with one folder for each class."
            )
        found[split] = {info["gt_label"] for info in infos}
    if found["train"] != found["test"] or len(found["train"]) < 2:
        raise DataError(
            f"Table 3 and figure 7 need at least two classes, each with pictures for training and "
            f"for testing; {study.data} has {len(found['train'])} for training and "
            f"{len(found['test'])} for testing."
        )


def _dataset(study: Study, run: Run, split: str) -> dict:
    """The pictures of a split as they are evaluated: whole, in order, in colour and grey."""
    cfg = copy.deepcopy(run.cfg)
    if study.size:
        study.choose_pictures(cfg, study.size.classified)
    train = cfg.train_dataloader.dataset
    config = dict(cfg.val_dataloader.dataset, split=split)
    if split == "train":
        config.pop("indices", None)
        config.update({key: train[key] for key in ("indices", "crops_per_photo") if key in train})
    return config


def write_sets(study: Study, run: Run, seed: int) -> dict[str, Path]:
    """The real sets and those that G_1 colorized after each epoch, by domain.

    Each is written once, as ``<domain>/{train,test}/<class>/<number>.png``.
    """
    folders = {name: study.folder / "sets" / name for name in REAL}
    for epoch in run.epochs:
        folders[domain(epoch)] = study.folder / "sets" / f"seed{seed}" / domain(epoch)
    for epoch in run.epochs:
        folder = folders[domain(epoch)]
        images = {"fake_color": folder}
        # The real ones come along with the first.
        for name, key in zip(REAL, ("img_color", "img_gray")):
            if not folders[name].is_dir():
                images[key] = folders[name]
        if folder.is_dir() and len(images) == 1:
            continue
        parts = {key: path.with_name(f".{path.name}.part") for key, path in images.items()}
        for part in parts.values():
            shutil.rmtree(part, ignore_errors=True)
        for split in ("train", "test"):
            _write(study, run, epoch, split, {k: str(p / split) for k, p in parts.items()})
        for key, path in images.items():
            shutil.rmtree(path, ignore_errors=True)
            parts[key].rename(path)
    return folders


def _write(study: Study, run: Run, epoch: int, split: str, folders: dict[str, str]) -> None:
    cfg = run.cfg.copy()
    # Random crops, of the demo, are the same at every epoch.
    cfg.test_dataloader = dict(
        cfg.val_dataloader,
        dataset=_dataset(study, run, split),
        sampler=dict(type="EpochSampler", shuffle=False, seed=0),
    )
    cfg.test_evaluator = [dict(type="ColorizedSetWriter", folders=folders)]
    cfg.test_cfg = dict(type="TestLoop")
    for part in ("train", "val"):
        cfg[f"{part}_dataloader"] = cfg[f"{part}_cfg"] = None
    cfg.val_evaluator = cfg.optim_wrapper = cfg.param_scheduler = None
    cfg.custom_hooks = []
    cfg.default_hooks.logger = None
    cfg.load_from = str(run.checkpoint(epoch))
    cfg.work_dir = str(study.folder / "sets" / ".log")
    cfg.log_level = "WARNING"
    cfg.experiment_name = f"sets_{epoch}_{split}_{run.cfg.randomness.seed}"
    Runner.from_cfg(cfg).test()


def classifiers(study: Study, folders: dict[str, Path], seed: int) -> dict[str, Run]:
    """A training for each domain, tested on all of them."""
    network = CONFIG_OF.get(study.kind, "alexnet_bn")
    cfg = Config.fromfile(OWN_CONFIGS / f"{network}.py")
    if size := study.size:
        cfg.merge_from_dict(size.classifier)
    if study.classifier_epochs:
        epochs = study.classifier_epochs
        cfg.train_cfg.update(max_epochs=epochs, val_interval=epochs)
        cfg.param_scheduler[0].milestones = [round(epochs * 0.33), round(epochs * 0.66)]
    cfg.model.num_classes = len(study.classes)
    cfg.randomness.seed = seed
    test = cfg.val_dataloader.dataset.datasets[0]
    roots = {name: str(path.resolve()) for name, path in folders.items()}
    cfg.val_dataloader.dataset.datasets = [
        dict(test, data_root=data_root) for data_root in roots.values()
    ]
    runs = {}
    for name, data_root in roots.items():
        own = copy.deepcopy(cfg)
        own.train_dataloader.dataset.data_root = data_root
        folder = study.folder / "classifiers" / f"seed{seed}" / name
        runs[name] = Run(f"{network} on {name}, seed {seed}", own, folder, study.gpus)
    return runs


def accuracy_matrix(runs: dict[str, Run]) -> np.ndarray:
    """Top-1 accuracy in %: a row per training domain, a column per test domain."""
    last = {name: run.history()[run.epochs[-1]]["metrics"] for name, run in runs.items()}
    return np.array([[last[train][f"{test}/top1"] for test in runs] for train in runs])


def row_averages(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean accuracy of each training domain, on all domains (Table 3) and on all others."""
    n = len(matrix)
    return matrix.mean(axis=1), (matrix.sum(axis=1) - matrix.diagonal()) / (n - 1)


def cross_domain(study: Study, target: str, runs: dict[int, dict[str, Run]]) -> str:
    """Table 3 or figure 7 from finished classifiers.

    Args:
        study: The study.
        target: ``table3`` or ``fig7``.
        runs: The classifiers by seed and training domain.
    """
    names = list(runs[study.seeds[0]])
    matrices = np.stack([accuracy_matrix(runs[seed]) for seed in study.seeds])
    mean = matrices.mean(axis=0)
    chosen = top_quarter(mean)
    result = dict(target=target, domains=names, accuracy=matrices.tolist())
    result.update(describe(study, [run for group in runs.values() for run in group.values()]))
    head = f"# {target} on {study.data}, preset {study.preset}\n\n"
    table = [["trained on \\ tested on", *names]]
    table += [[name, *(f"{value:.1f}" for value in row)] for name, row in zip(names, mean)]
    if target == "fig7":
        result["top_quarter"] = [
            [names[i], names[j], float(mean[i, j])] for i, j in np.argwhere(chosen)
        ]
        counts = [["set", "chords it starts", "chords that end there"]]
        counts += [
            [name, str(chosen[i].sum()), str(chosen[:, i].sum())] for i, name in enumerate(names)
        ]
        text = (
            f"{head}![fig7](fig7.png)\n\nIn colour the top quarter of the accuracies between "
            f"different sets, in the colour of the training set:\n\n{markdown_table(counts)}\n"
            f"Top-1 accuracy in %:\n\n{markdown_table(table)}"
        )
        save(study.folder, target, result, text, chord_diagram(mean, names))
        return text
    averages = [row_averages(matrix) for matrix in matrices]
    published = TABLE3.get(study.kind, {})
    rows, lines = [], [["training set", "avg. % on all", "avg. % on others", "paper's avg. %"]]
    for i, name in enumerate(names):
        on_all, on_others = (mean_and_spread([a[part][i] for a in averages]) for part in (0, 1))
        rows.append(
            dict(domain=name, on_all=on_all, on_others=on_others, paper=published.get(name))
        )
        lines.append([name, cell(on_all, 1), cell(on_others, 1), str(published.get(name, "–"))])
    result["rows"] = rows
    text = (
        f"{head}{markdown_table(lines)}\nG1_<n>: colorized by G_1 after epoch n. "
        f"{len(study.seeds)} seed(s){', mean ± standard deviation' * (len(study.seeds) > 1)}.\n\n"
        f"Top-1 accuracy in %, mean over seeds:\n\n{markdown_table(table)}"
    )
    save(study.folder, target, result, text)
    return text
