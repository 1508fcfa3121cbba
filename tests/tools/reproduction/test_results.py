import numpy as np
import pytest
from mmengine.config import Config

from reproduction.classification import _dataset, row_averages
from reproduction.colorization import at_equal_time, photograph_interval
from reproduction.results import average_over_epochs, cell, mean_and_spread
from reproduction.runs import Run, train
from reproduction.study import ABLATIONS, CONFIGS, NAMED, VARIANTS, Study
from spynco_mm.datasets import DataError
from spynco_mm.engine import read_history


def entry(epoch, mse, ssim, seconds=0.0, **photographs):
    metrics = {"G1/MSE": mse, "G1/MSE_uint8": mse / 2, "G1/SSIM": ssim}
    metrics.update({"gray/MSE": 7.0, "gray/MSE_uint8": 3.0, "gray/SSIM": 0.5})
    photos = {name: {"G1/MSE": value, "gray/MSE": 10.0} for name, value in photographs.items()}
    return dict(epoch=epoch, metrics=metrics, train_cpu_seconds=seconds, photographs=photos)


def test_tables_average_the_evaluations_of_the_first_50_epochs():
    mse = {10: 100.0, 20: 90.0, 30: 80.0, 40: 95.0, 50: 85.0, 60: 1.0, 100: 1.0}
    history = {e: entry(e, value, value / 1000) for e, value in mse.items()}
    # (100 + 90 + 80 + 95 + 85) / 5
    expected = {"MSE": 90.0, "MSE_uint8": 45.0, "SSIM": pytest.approx(0.09)}
    assert average_over_epochs(history, 50) == expected
    grey = average_over_epochs(history, 50, "gray")
    assert grey == {"MSE": 7.0, "MSE_uint8": 3.0, "SSIM": 0.5}


def test_mean_and_spread_over_seeds():
    three = mean_and_spread([1.0, 2.0, 6.0])
    # ((-2)^2 + (-1)^2 + 3^2) / 2 = 7
    assert three == {"mean": 3.0, "spread": pytest.approx(7**0.5)}
    assert cell(three, 1) == "3.0 ± 2.6" and cell(three, 0, 100) == "300 ± 265"
    assert mean_and_spread([4.0]) == {"mean": 4.0, "spread": None}
    assert cell(mean_and_spread([4.0]), 1) == "4.0"


def test_scores_at_equal_time_lie_between_evaluations():
    history = {1: entry(1, 100.0, 0.1, 10.0), 2: entry(2, 60.0, 0.1, 20.0)}
    assert at_equal_time([history], "train_cpu_seconds", 15.0, "MSE") == [80.0]
    assert at_equal_time([history], "train_cpu_seconds", 20.0, "MSE") == [60.0]
    assert at_equal_time([history], "train_cpu_seconds", 5.0, "MSE") is None


def test_intervals_are_of_differences_photograph_by_photograph():
    ours = {3: entry(3, 0.0, 0.0, a=1.0, b=21.0, c=2.0, d=24.0, e=3.0)}
    # Every photograph is 1 or 2 worse: far apart from each other, near in their differences.
    theirs = {3: entry(3, 0.0, 0.0, a=2.0, b=23.0, c=3.0, d=26.0, e=4.0)}
    found = photograph_interval([theirs], [ours], "G1", "G1")
    assert found["photographs"] == 5
    assert found["mean"] == pytest.approx(7 / 5)
    assert 1 <= found["low"] < 7 / 5 < found["high"] <= 2
    # Seeds are averaged before: (1 + 5) / 2 - 1 = 2 for photograph a.
    second = {3: entry(3, 0.0, 0.0, a=5.0, b=21.0, c=2.0, d=24.0, e=3.0)}
    assert photograph_interval([ours, second], [ours], "G1", "G1")["mean"] == pytest.approx(2 / 5)


def test_row_averages_by_hand():
    matrix = np.array([[90.0, 60.0, 30.0], [50.0, 80.0, 20.0], [10.0, 40.0, 70.0]])
    on_all, on_others = row_averages(matrix)
    assert on_all.tolist() == [60.0, 50.0, 40.0]
    assert on_others.tolist() == [45.0, 35.0, 25.0]


def counted(data, preset, folder):
    """A study that need not look at its pictures, most of which are not here."""
    study = Study(data, preset, work_dir=folder)
    study._counts = dict(train=50_000, val=10_000)
    return study


@pytest.mark.parametrize("data", NAMED)
def test_every_training_has_its_config(data, tmp_path):
    study = counted(data, "paper", tmp_path)
    for variant in VARIANTS:
        cfg = study.config(variant)
        exact = cfg.model.generator.get("consistency") is not None
        assert exact == (variant in ("exact", "exact_l1"))
    # "Averaged over 50 epochs", and Landscape has no more.
    if data != "demo":
        assert study.config("l1").train_cfg.max_epochs == 50


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("ablations/*.py")), ids=lambda path: path.stem)
def test_ablations_are_those_of_the_configs(path, tmp_path):
    variant, data = path.stem.removeprefix("spynco_").rsplit("_", 1)
    assert variant in ABLATIONS
    model = counted(data, "paper", tmp_path).config(variant).model
    assert model.to_dict() == Config.fromfile(path).model.to_dict()


def test_paper_preset_changes_nothing_but_what_is_kept(tmp_path):
    study = Study("demo", "paper", work_dir=tmp_path)
    published, cfg = Config.fromfile(CONFIGS / "spynco_demo.py"), study.config("spynco")
    published.default_hooks.checkpoint.update(interval=5, max_keep_ckpts=-1)
    published.val_evaluator[0].update(per_photograph=True, uint8_mse=True)
    assert cfg.to_dict() == published.to_dict()
    # The ablations end with the tables, at the learning rate of the whole training.
    assert study.config("l1").train_cfg.max_epochs == 5
    assert study.config("l1").param_scheduler[0].end == 10


def test_small_preset_takes_pictures_from_everywhere(tmp_path):
    run = counted("cifar10", "small", tmp_path).run("cyclegan", 3)
    indices = run.cfg.train_dataloader.dataset.indices
    assert len(indices) == 400 and indices[1] == 125 and indices[-1] == 49_875
    assert run.cfg.val_dataloader.dataset.indices[-1] == 9950
    assert run.epochs == list(range(2, 21, 2))
    assert run.cfg.model.generator.num_blocks == 6
    assert run.cfg.model.discriminator.base_channels == 16 and run.identity["seed"] == 3


def test_medium_preset_trains_on_all_pictures_and_classifies_some(tmp_path):
    study = counted("cifar10", "medium", tmp_path)
    run = study.run("colcycle", 0)
    loader = run.cfg.train_dataloader
    assert "indices" not in loader.dataset and "indices" not in run.cfg.val_dataloader.dataset
    assert (loader.batch_size, loader.num_workers, run.epochs) == (32, 0, [1, 2, 3, 4, 5, 6])
    assert run.cfg.model.generator.base_channels == 8
    for split, count, of in (("train", 10_000, 50_000), ("test", 2_000, 10_000)):
        config = _dataset(study, run, split)
        assert config["split"] == split and "indices" not in run.cfg.val_dataloader.dataset
        assert (len(config["indices"]), config["indices"][-1]) == (count, of - 5)


def test_small_preset_crops_what_a_folder_holds(tmp_path):
    (tmp_path / "class").mkdir()
    study = Study(str(tmp_path), "small", work_dir=tmp_path / "out")
    study._counts = dict(train=30, val=10)
    cfg = study.config("spynco")
    train, test = cfg.train_dataloader.dataset, cfg.val_dataloader.dataset
    assert (train["size"], test["size"]) == (36, 32) and "indices" not in train
    assert [step.get("crop_size") for step in train.pipeline[:3]] == [(32, 32), (32, 32), None]
    assert train.class_folders and train.data_root == str(tmp_path)
    assert cfg.val_evaluator[0].per_photograph


def test_a_run_is_finished_when_all_its_evaluations_are_there(tmp_path):
    cfg = Config(dict(train_cfg=dict(max_epochs=6, val_interval=2)))
    run = Run("r", cfg, tmp_path)
    assert run.epochs == [2, 4, 6] and not run.finished()
    (tmp_path / "history.jsonl").write_text('{"epoch": 2}\n{"epoch": 4}\n')
    assert not run.finished()
    (tmp_path / "history.jsonl").write_text('{"epoch": 2}\n{"epoch": 4}\n{"epoch": 6}\n')
    assert run.finished()
    with pytest.raises(FileNotFoundError, match="no checkpoint of epoch 6"):
        run.checkpoint(6)


def tiny(folder, **options):
    """A training of a few seconds: a very narrow network on crops of two photographs."""
    cfg = Study("demo", work_dir=folder).config("spynco")
    cfg.merge_from_dict(
        {
            "model.generator.base_channels": 4,
            "model.discriminator.channels": (4, 4, 8, 8),
            "train_dataloader.dataset": dict(crops_per_photo=4, photos=["china", "flower"]),
            "train_dataloader.batch_size": 2,
            "val_dataloader.dataset.photos": ["china"],
            **options,
        }
    )
    return cfg


def test_a_failure_shows_how_its_log_ends_and_stops_what_goes_on(quick_starts, tmp_path):
    endless = tiny(tmp_path, **{"train_cfg.max_epochs": 100_000, "train_cfg.val_interval": 100_000})
    broken = tiny(tmp_path, **{"model.generator.of_luck": "out"})
    runs = [
        Run("endless", endless, tmp_path / "endless"),
        Run("broken", broken, tmp_path / "broken"),
        Run("later", endless, tmp_path / "later"),
    ]
    # The endless one comes first, so it is what the caller waits for.
    with pytest.raises(ChildProcessError, match=r"(?s)training of broken failed.*'of_luck'"):
        train(runs, jobs=2)
    assert "of_luck" in (tmp_path / "broken" / "train.log").read_text()
    assert runs[0]._processes.processes[0].exitcode < 0
    assert runs[2]._processes is None or runs[2]._processes.processes[0].exitcode < 0


def test_two_processes_train_together(quick_starts, tmp_path):
    options = {"train_cfg.max_epochs": 2, "train_cfg.val_interval": 1}
    run = Run("two", tiny(tmp_path, **options), tmp_path / "two", gpus=2)
    with pytest.raises(FileNotFoundError, match="no checkpoint of epoch 2"):
        run.checkpoint(2)
    run.train()
    assert run.finished() and run.checkpoint(2).is_file()
    # 8 crops, two at a time in each of two processes: two iterations an epoch.
    assert [entry["iter"] for entry in read_history(run.folder)] == [2, 4]
    with pytest.raises(ValueError, match=r"other settings \(processes in run\.json\)"):
        Run("alone", run.cfg, run.folder).check()


@pytest.mark.parametrize(
    "wrong, message",
    [
        (dict(data="imagenet"), "There is no data set 'imagenet' and no such folder"),
        (dict(preset="large"), "There is no preset 'large'"),
        (dict(epochs=1), "--epochs must be at least 2"),
        (dict(seeds=[1, 1]), "different seeds"),
        (dict(gpus=0), "at least one process"),
        (dict(jobs=0), "one job"),
    ],
)
def test_wrong_settings(wrong, message):
    with pytest.raises(ValueError, match=message) as error:
        Study(**{"data": "demo", **wrong})
    assert isinstance(error.value, DataError) == ("data" in wrong)
