import sys
import time

import numpy as np
import pytest
from mmengine.config import Config
from tqdm import tqdm

from spynco_mm.datasets import DataError
from spynco_mm.experiments import Run, Study
from spynco_mm.experiments.classification import row_averages
from spynco_mm.experiments.colorization import at_equal_time, photograph_interval
from spynco_mm.experiments.reproduce import train
from spynco_mm.experiments.results import average_over_epochs, cell, mean_and_spread
from spynco_mm.experiments.runs import DATASETS, VARIANTS


def entry(epoch, mse, ssim, seconds=0.0, **photographs):
    metrics = {"G1/MSE": mse, "G1/SSIM": ssim, "gray/MSE": 7.0, "gray/SSIM": 0.5}
    photos = {name: {"G1/MSE": value, "gray/MSE": 10.0} for name, value in photographs.items()}
    return dict(epoch=epoch, metrics=metrics, train_cpu_seconds=seconds, photographs=photos)


def test_tables_average_the_evaluations_of_the_first_50_epochs():
    mse = {10: 100.0, 20: 90.0, 30: 80.0, 40: 95.0, 50: 85.0, 60: 1.0, 100: 1.0}
    history = {e: entry(e, value, value / 1000) for e, value in mse.items()}
    # (100 + 90 + 80 + 95 + 85) / 5
    assert average_over_epochs(history, 50) == {"MSE": 90.0, "SSIM": pytest.approx(0.09)}
    assert average_over_epochs(history, 50, "gray") == {"MSE": 7.0, "SSIM": 0.5}


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


@pytest.mark.parametrize("data", DATASETS)
def test_every_training_has_its_config(data):
    study = Study(data)
    for variant in VARIANTS:
        cfg = Config.fromfile(study.config(variant))
        exact = cfg.model.generator.get("consistency") is not None
        assert exact == (variant == "exact")
    # "Averaged over 50 epochs", and Landscape has no more.
    epochs = Config.fromfile(study.config("spynco")).train_cfg.max_epochs
    if data != "demo":
        assert study.table_epochs(epochs) == 50


def test_paper_preset_changes_nothing_but_what_is_kept(tmp_path):
    study = Study("demo", "paper", work_dir=tmp_path)
    assert set(study.options("spynco")) == {
        "train_cfg.max_epochs",
        "default_hooks.checkpoint.interval",
        "default_hooks.checkpoint.max_keep_ckpts",
        "val_evaluator.0.per_photograph",
    }
    assert study.options("spynco")["train_cfg.max_epochs"] == 10
    # The ablations end with the tables, at the learning rate of the whole training.
    assert study.options("l1")["train_cfg.max_epochs"] == 5
    assert study.run("l1", 0).cfg.param_scheduler[0].end == 10


def test_small_preset_takes_pictures_from_everywhere(tmp_path):
    study = Study("cifar10", "small", work_dir=tmp_path)
    study._counts = dict(train=50_000, val=10_000)
    run = study.run("cyclegan", 3)
    indices = run.cfg.train_dataloader.dataset.indices
    assert len(indices) == 400 and indices[1] == 125 and indices[-1] == 49_875
    assert run.cfg.val_dataloader.dataset.indices[-1] == 9950
    assert run.epochs == list(range(2, 21, 2))
    assert run.cfg.model.generator.num_blocks == 6


def test_a_run_goes_on_before_the_first_missing_evaluation(tmp_path):
    config = Study("demo").config("spynco")
    run = Run("r", config, {"train_cfg.max_epochs": 6, "train_cfg.val_interval": 2}, 0, tmp_path)
    assert run.epochs == [2, 4, 6] and run.resume_point() is None and not run.finished()
    (tmp_path / "history.jsonl").write_text('{"epoch": 2, "iter": 2}\n')
    for epoch in (2, 3, 4):
        (tmp_path / f"epoch_{epoch}.pth").touch()
    # Killed while it evaluated epoch 4: from there it would never be evaluated.
    assert run.resume_point().name == "epoch_3.pth"
    with open(tmp_path / "history.jsonl", "a") as file:
        file.write('{"epoch": 4, "iter": 4}\n{"epoch": 6, "iter": 6}\n')
    assert run.resume_point().name == "epoch_4.pth" and run.finished()
    with pytest.raises(FileNotFoundError, match="no checkpoint of epoch 6"):
        run.checkpoint(6)


def test_failed_training_shows_how_its_log_ends(tmp_path):
    run = Run("spynco, seed 0", Study("demo").config("spynco"), {}, 0, tmp_path)
    code = "print('Epoch(train) [3][4/4]'); print('out of luck'); exit(1)"
    with tqdm(total=5, disable=False) as bar:
        with pytest.raises(ChildProcessError, match=r"(?s)seed 0 failed.*luck"):
            run._watch([sys.executable, "-c", code], bar)
        assert bar.n == 3
    assert "out of luck" in (tmp_path / "train.log").read_text()


def test_a_failure_stops_what_goes_on_beside_it(tmp_path, monkeypatch):
    config = Study("demo").config("spynco")
    runs = [Run(name, config, {}, 0, tmp_path / name) for name in ("slow", "failing", "later")]
    watch = Run._watch

    def short(run, command, bar):
        code = "import time; time.sleep(60)" if run.name != "failing" else "exit('out of luck')"
        return watch(run, [sys.executable, "-c", code], bar)

    monkeypatch.setattr(Run, "_watch", short)
    # The slow one comes first, so it is what the caller waits for.
    start = time.monotonic()
    with pytest.raises(ChildProcessError, match=r"(?s)training of failing failed.*out of luck"):
        train(runs, jobs=2)
    assert time.monotonic() - start < 30
    assert runs[0]._process.poll() < 0
    assert runs[2]._process is None or runs[2]._process.poll() < 0


def test_a_folder_is_for_one_training_at_a_time(tmp_path):
    run = Run("r", Study("demo").config("spynco"), {}, 0, tmp_path)
    with run._lock(), pytest.raises(ValueError, match="is being trained by another process"):
        Run("r", run.config, {}, 0, tmp_path)._lock()
    run._lock().close()


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
