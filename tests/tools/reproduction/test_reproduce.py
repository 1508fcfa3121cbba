"""Every table and figure, from the command line to the files, at a tiny size."""

import io
import json
import os
import runpy
import signal
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from reproduction.study import Study
from reproduction.targets import TARGETS, reproduce
from spynco_mm.datasets import DataError, FolderColorization
from spynco_mm.datasets.photographs import photograph_path
from spynco_mm.engine import read_history

TOOL = Path(__file__).parents[3] / "tools" / "reproduce.py"
TINY = {
    "train_dataloader.dataset.crops_per_photo": 4,
    "train_dataloader.dataset.photos": ["china", "flower"],
    "val_dataloader.dataset.photos": ["china", "flower"],
    "train_dataloader.batch_size": 4,
}


def study(folder, **changes):
    settings = dict(data="demo", epochs=2, classifier_epochs=1, jobs=2, cfg_options=TINY)
    return Study(**{**settings, "work_dir": folder, **changes})


@pytest.fixture(scope="module")
def folder(quick_starts, tmp_path_factory):
    path = tmp_path_factory.mktemp("reproduce")
    command = ["reproduce.py", "all", "--data", "demo", "--epochs", "2", "--work-dir", str(path)]
    command += ["--classifier-epochs", "1", "--jobs", "2", "--cfg-options"]
    command += [f"{key}={value}".replace("'", "").replace(" ", "") for key, value in TINY.items()]
    said, progress = io.StringIO(), io.StringIO()
    before = signal.getsignal(signal.SIGTERM)
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(said), redirect_stderr(progress):
        patch.setattr(sys, "argv", command)
        patch.setattr(os, "environ", os.environ.copy())
        runpy.run_path(str(TOOL), run_name="__main__")
    signal.signal(signal.SIGTERM, before)
    assert "[1/8]" in progress.getvalue() and "epoch" in progress.getvalue()
    assert "# table1 on demo" in said.getvalue()
    return path


def result(folder, target):
    return json.loads((folder / "demo_small" / f"{target}.json").read_text())


def test_every_target_is_written_with_what_it_was_made_with(folder):
    for target in TARGETS:
        data = result(folder, target)
        assert data["target"] == target and data["versions"]["torch"]
        for run in data["runs"]:
            assert run["seed"] == 0 and run["processes"] == 1
            assert Config.fromfile(run["config"]).randomness.seed == 0
        text = (folder / "demo_small" / f"{target}.md").read_text()
        assert text.startswith(f"# {target} on demo")
        if target.startswith("fig"):
            with Image.open(folder / "demo_small" / f"{target}.png") as picture:
                assert np.asarray(picture.convert("L")).std() > 5
            ElementTree.parse(folder / "demo_small" / f"{target}.svg")


def test_numbers_are_those_of_the_runs_logs(folder):
    history = read_history(folder / "demo_small" / "runs" / "l1_seed0")
    assert [entry["epoch"] for entry in history] == [1]  # the ablations end with the tables
    rows = {row["variant"]: row for row in result(folder, "table1")["rows"]}
    for score in ("MSE", "MSE_uint8", "SSIM"):
        assert rows["l1"][score]["mean"] == pytest.approx(history[0]["metrics"][f"G1/{score}"])
    text = (folder / "demo_small" / "table1.md").read_text()
    assert "MSE in bytes | paper's MSE" in text and "not the authors' word" in text
    assert set(rows) == {"l1", "spynco", "exact_l1", "exact", "gray"}
    assert {row["variant"] for row in result(folder, "table2")["rows"]} == {
        "l1_no_contours", "l1", "no_contours", "spynco", "exact", "gray"
    }  # fmt: skip
    figure = result(folder, "fig6")
    for label, run in (("Col-Cycle", "colcycle"), ("CycleGAN", "cyclegan")):
        history = read_history(folder / "demo_small" / "runs" / f"{run}_seed0")
        expected = [entry["metrics"]["G1/SSIM"] for entry in history]
        assert figure["curves"][label]["SSIM"] == [expected] and len(expected) == 2
    shown = {(row["variant"], row["output"]): row for row in figure["rows"]}
    assert len(shown) == 4 + 3 + 2 + 2 + 1  # G_1 projected, but for exact; and the grey input
    for key, name in ((("cyclegan", "G1_projected"), "CIEDE2000"), (("cyclegan", "G1"), "MSE")):
        assert shown[key][name]["mean"] == history[-1]["metrics"][f"{key[1]}/{name}"]
    assert "CycleGAN, G_1, projected" in (folder / "demo_small" / "fig6.md").read_text()
    assert [f"SpyncoGan G_{i}" in figure["curves"] for i in (1, 2, 3)] == [True] * 3
    assert figure["intervals"][0]["photographs"] == 2


def test_classifiers_are_tested_on_every_set(folder):
    data = result(folder, "table3")
    names = ["real_color", "real_gray", "G1_001", "G1_002"]
    assert data["domains"] == names
    matrix = np.array(data["accuracy"][0])
    assert matrix.shape == (4, 4) and (matrix >= 0).all() and (matrix <= 100).all()
    for name, row in zip(names, matrix):
        entry = read_history(folder / "demo_small" / "classifiers" / "seed0" / name)[-1]
        assert [entry["metrics"][f"{test}/top1"] for test in names] == row.tolist()
        average = next(r["on_all"]["mean"] for r in data["rows"] if r["domain"] == name)
        assert average == pytest.approx(row.mean())
    # Each of twelve pairs, a quarter of them and what equals the last.
    assert len(result(folder, "fig7")["top_quarter"]) >= 3


def test_colorized_sets_hold_the_same_pictures_with_labels(folder):
    sets = folder / "demo_small" / "sets"
    real, gray, first, second = (
        FolderColorization(
            str(sets / name),
            color_dir=dict(train="train", test="test"),
            class_folders=True,
            split="train",
            test_mode=True,
        )
        for name in ("real_color", "real_gray", "seed0/G1_001", "seed0/G1_002")
    )
    assert len(real) == len(gray) == len(first) == 8  # two photographs, four crops
    for i in range(8):
        color, grey = real[i]["img_color"].astype(float), gray[i]["img_color"]
        assert real[i]["gt_label"] == first[i]["gt_label"] == second[i]["gt_label"]
        luma = color @ [0.299, 0.587, 0.114]
        assert np.abs(grey - luma[..., None]).max() <= 0.51
        assert (first[i]["img_color"] != second[i]["img_color"]).any()


def test_an_interrupted_run_goes_on_and_finished_ones_do_not(folder):
    run = study(folder).run("exact", 0)
    before = read_history(run.folder)
    # As if it had been killed while it evaluated the second epoch.
    lines = (run.folder / "history.jsonl").read_text().splitlines()
    (run.folder / "history.jsonl").write_text(lines[0] + "\n")
    log = (run.folder / "train.log").read_text()
    files = {
        path: path.stat().st_mtime_ns
        for pattern in ("*.pth", "train.log", "0*.png")
        for path in folder.rglob(pattern)
        if run.folder not in path.parents
    }
    assert len(files) > 20
    # What takes trainings of both kinds, and pictures made by the first for the second.
    text = reproduce(study(folder), ["table1", "fig7"])
    assert {path: path.stat().st_mtime_ns for path in files} == files
    assert "# table1 on demo" in text and "# fig7 on demo" in text
    after = read_history(run.folder)
    assert "resumed epoch: 2" in (run.folder / "train.log").read_text()[len(log) :]
    assert after[0] == before[0] and after[1]["epoch"] == 2
    # Exactly what it would have been.
    assert after[1]["metrics"] == pytest.approx(before[1]["metrics"], rel=1e-6)


def test_other_settings_do_not_mix_with_old_runs(folder):
    with pytest.raises(ValueError, match=r"other settings .*train_cfg in \w+_seed0\.py"):
        reproduce(study(folder, epochs=4), ["table1"])


def test_missing_labels_are_said_before_any_training(tmp_path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for name in ("china", "flower", "coffee", "chelsea", "astronaut"):
        Image.open(photograph_path(name)).convert("RGB").resize((48, 48)).save(
            pictures / f"{name}.png"
        )
    flat = study(tmp_path, data=str(pictures), cfg_options={})
    with pytest.raises(DataError, match=r"need labels, but .*pictures has none"):
        reproduce(flat, ["table3"])
    assert not (flat.folder / "runs").exists()
    # Three classes, but one picture of five is for testing.
    for name in ("china", "flower", "coffee", "chelsea", "astronaut"):
        (pictures / name[0]).mkdir(exist_ok=True)
        (pictures / f"{name}.png").rename(pictures / name[0] / f"{name}.png")
    (flat.folder / "split.json").unlink()
    with pytest.raises(DataError, match="at least two classes, each with pictures"):
        reproduce(study(tmp_path, data=str(pictures), cfg_options={}), ["fig7"])


def test_what_figure_7_needs_is_asked_for_before_any_training(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pycirclize", None)
    with pytest.raises(ValueError, match=r"drawn by pycirclize; pip install pycirclize pandas\."):
        reproduce(study(tmp_path), ["fig7"])
    assert not list(tmp_path.iterdir())


def test_tables_without_an_evaluation_are_refused(tmp_path):
    late = {**TINY, "train_cfg.val_interval": 2}
    with pytest.raises(ValueError, match="up to epoch 1, but the first is after epoch 2"):
        reproduce(study(tmp_path, cfg_options=late), ["table1"])
