"""A run that is killed twice against one that is not."""

import os
import shutil
import signal
from pathlib import Path

import pytest
import torch
from runs import runner, tool, write_config

from spynco_mm.engine.history_hook import read_history
from spynco_mm.models import SpyncoGenerator
from spynco_mm.utils.files import lock_folder

DATA = """
train_dataloader = dict(batch_size=8, dataset=dict(crops_per_photo=4))  # 40 items, 5 batches
train_cfg = dict(max_epochs=3, val_interval=1)
param_scheduler = [
    dict(
        type="LinearLR",
        start_factor=1.0,
        end_factor=0.0,
        begin=1,
        end=3,
        by_epoch=True,
        convert_to_iter_based=True,
    )
]
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    return write_config(folder / "small.py", "spynco_exact_demo.py", DATA)


@pytest.fixture(scope="module")
def uninterrupted(config, tmp_path_factory):
    run = runner(config, tmp_path_factory.mktemp("uninterrupted"))
    run.train()
    torch.use_deterministic_algorithms(False)
    return Path(run.work_dir)


def assert_same(a, b, where="checkpoint"):
    assert type(a) is type(b), where
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_same(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), where
        for i, pair in enumerate(zip(a, b)):
            assert_same(*pair, f"{where}[{i}]")
    else:
        assert a == b, where


def log_history(checkpoint):
    scalars = checkpoint["message_hub"]["log_scalars"]
    return {
        name: torch.as_tensor(buffer.data[0])
        for name, buffer in scalars.items()
        if "time" not in name  # also data_time
    }


def test_killed_and_resumed_run_equals_an_uninterrupted_one(config, uninterrupted, tmp_path):
    def train(*options):
        return tool("train", config, "--work-dir", tmp_path, *options)

    kill = ["--cfg-options", "default_hooks.kill.type=Kill"]
    # In the middle of the second epoch.
    run = train(*kill, "default_hooks.kill.after_iter=8")
    assert run.returncode == -signal.SIGKILL, run.stdout
    assert [path.name for path in tmp_path.glob("epoch_*")] == ["epoch_1.pth"]
    # When the second checkpoint is written but not in its place yet. Another seed is given, and
    # the one of the checkpoint goes on.
    run = train("--resume", "--seed", "7", *kill, "default_hooks.kill.before_file=epoch_2.pth")
    assert run.returncode == -signal.SIGKILL, run.stdout
    assert "resumed epoch: 1, iter: 5" in run.stdout
    names = sorted(path.name for path in tmp_path.glob("epoch_*"))
    assert names == ["epoch_1.pth", "epoch_2.pth.part"]
    run = train("--resume")
    assert run.returncode == 0, run.stdout
    assert "resumed epoch: 1, iter: 5" in run.stdout

    assert sorted(path.name for path in tmp_path.glob("epoch_*")) == ["epoch_2.pth", "epoch_3.pth"]
    mine, other = (torch.load(folder / "epoch_3.pth") for folder in (tmp_path, uninterrupted))
    for part in ("state_dict", "optimizer", "param_schedulers", "image_buffers", "sampler_seed"):
        assert_same(mine[part], other[part], part)
    assert len(mine["image_buffers"][0][0]) == 6
    # Every loss of every iteration, so all that was drawn on the way was the same.
    assert_same(log_history(mine), log_history(other))
    assert len(log_history(mine)["train/loss_g"]) == 15

    best = [path.name for path in tmp_path.glob("best_*")]
    assert best == [path.name for path in uninterrupted.glob("best_*")] and len(best) == 1
    assert (tmp_path / "results.json").read_text() == (uninterrupted / "results.json").read_text()


def test_a_second_run_in_a_folder_ends_before_it_writes(config, tmp_path):
    with lock_folder(tmp_path):
        run = tool("train", config, "--work-dir", tmp_path)
        assert run.returncode == 1 and "Traceback" not in run.stdout
    sentence = f"ValueError: {tmp_path} is in use by process {os.getpid()} on "
    assert sentence in run.stdout and run.stdout.count("Error") == 1
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_mmagics_visualization_hooks_do_not_change_a_run(config, uninterrupted, tmp_path):
    vis = dict(
        type="VisualizationHook",
        interval=2,
        n_samples=4,
        fixed_input=False,
        vis_kwargs_list=[dict(type="Translation", name="train"), dict(type="TranslationVal")],
    )
    run = runner(
        config,
        tmp_path,
        default_hooks__vis=vis,
        default_hooks__basic=dict(type="BasicVisualizationHook"),
    )
    run.train()
    mine, other = (torch.load(folder / "epoch_3.pth") for folder in (tmp_path, uninterrupted))
    assert_same(mine["state_dict"], other["state_dict"])
    assert_same(log_history(mine), log_history(other))
    pictures = {path.stem for path in tmp_path.glob("*/vis_data/vis_image/*.png")}
    assert {"train_2", "train_4", "translationval_2", "sample_0_5", "sample_39_15"} <= pictures


def test_accumulated_gradients_of_the_last_iterations_count(config, tmp_path):
    counts = {f"optim_wrapper__{n}__accumulative_counts": 4 for n in ("generator", "discriminator")}
    runner(config, tmp_path, **counts).train()
    for optimizer in torch.load(tmp_path / "epoch_3.pth")["optimizer"].values():
        # 15 iterations: after 4, 8, 12 and 15.
        assert {int(state["step"]) for state in optimizer["state"].values()} == {4}


@pytest.mark.parametrize("epoch", [2, 3])
def test_an_evaluation_that_a_kill_came_before_is_made_up(config, uninterrupted, tmp_path, epoch):
    shutil.copy(uninterrupted / f"epoch_{epoch}.pth", tmp_path)
    lines = (uninterrupted / "history.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "history.jsonl").write_text("".join(lines[: epoch - 1]))
    runner(config, tmp_path, resume=tmp_path / f"epoch_{epoch}.pth").train()
    mine, other = (read_history(folder) for folder in (tmp_path, uninterrupted))
    assert [entry["epoch"] for entry in mine] == [1, 2, 3]
    assert [entry["metrics"] for entry in mine] == [entry["metrics"] for entry in other]


def test_a_misspelt_checkpoint_setting_is_refused_before_training(config, tmp_path):
    run = runner(config, tmp_path, default_hooks__checkpoint__interva=1)
    with pytest.raises(ValueError, match="CheckpointHook does not know interva"):
        run.train()
    assert run.iter == 0


def test_a_checkpoint_of_weights_is_not_resumed(config, uninterrupted, tmp_path):
    (best,) = uninterrupted.glob("best_*")
    with pytest.raises(ValueError, match="holds weights only, so no run can be resumed"):
        runner(config, tmp_path, resume=best).train()


def test_a_checkpoint_that_was_trained_otherwise(config, uninterrupted, tmp_path):
    """The consistency has no weights, so the weights fit without it. The run is finished."""

    def said(folder, **options):
        run = runner(config, folder, resume=uninterrupted / "epoch_3.pth", **options)
        lines = []
        run.logger.warning = run.logger.info = lambda text, *args: lines.append(str(text))
        run.train()
        assert any("Nothing is left to train" in line for line in lines)
        return [line for line in lines if "trained otherwise" in line]

    # Classes, as in mmengine's new style of configs, are what their names are.
    same = dict(model__generator__type=SpyncoGenerator, model__generator__fast=False)
    same["optim_wrapper__generator__optimizer__type"] = torch.optim.Adam
    assert not said(tmp_path / "same", **same)
    (line,) = said(tmp_path / "other", model__generator__consistency=None)
    assert "its generator had consistency={'type': 'ExactConsistency'" in line
    assert line.endswith("this one has consistency=None.")


def test_a_checkpoint_of_another_model(config, uninterrupted, tmp_path):
    run = runner(
        config,
        tmp_path,
        resume=uninterrupted / "epoch_3.pth",
        model__generator__base_channels=8,
        model__generator__num_blocks=2,
    )
    with pytest.raises(ValueError) as error:
        run.train()
    message = str(error.value)
    assert "does not fit the model of this config: generator.encoder.0" in message
    assert "has shape (4, 3, 9, 9) in the checkpoint and (8, 3, 9, 9) in the model" in message
    assert message.endswith(" more; use the config it was trained with.")  # not all of them
