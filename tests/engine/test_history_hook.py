import json
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from mmengine.runner import EpochBasedTrainLoop
from tiny_run import loader, tiny_runner

from spynco_mm.engine import HistoryHook, read_history
from spynco_mm.evaluation import ColorizationMetric


@pytest.fixture
def runner(tmp_path):
    metric = ColorizationMetric()
    return SimpleNamespace(
        work_dir=str(tmp_path),
        epoch=1,
        iter=10,
        message_hub=MessageHub.get_instance(f"history_{tmp_path.name}"),
        val_loop=SimpleNamespace(evaluator=Evaluator([metric])),
        _train_loop=object.__new__(EpochBasedTrainLoop),
        train_dataloader=range(10),
    )


def train_epoch(hook, runner, work):
    hook.before_train_epoch(runner)
    work()
    hook.after_train_iter(runner, 9)


def burn():
    end = time.process_time() + 0.05
    while time.process_time() < end:
        pass


def test_clocks_count_training_only_and_go_on_after_a_resume(runner):
    hook = HistoryHook()
    train_epoch(hook, runner, lambda: time.sleep(0.1))
    burn()  # an evaluation
    hook.after_val_epoch(runner, {"G1/MSE": 3.0})
    # A new process has the clocks of the checkpoint, in the message hub.
    runner.epoch, runner.iter = 2, 20
    train_epoch(HistoryHook(), runner, burn)
    hook.after_val_epoch(runner, {"G1/MSE": 2.0})
    first, second = read_history(runner.work_dir)
    assert first["epoch"] == 1 and first["metrics"] == {"G1/MSE": 3.0}
    assert first["train_seconds"] >= 0.1 and first["train_cpu_seconds"] < 0.05
    assert 0.05 <= second["train_cpu_seconds"] < 0.1 + first["train_cpu_seconds"]
    assert second["train_seconds"] > first["train_seconds"]


def test_resumed_run_replaces_what_comes_after_its_checkpoint(runner):
    hook = HistoryHook()
    hook.before_train_epoch(runner)
    for iteration in (10, 20, 30):
        runner.iter, runner.epoch = iteration, iteration // 10
        hook.after_val_epoch(runner, {"G1/MSE": float(iteration)})
    runner.iter, runner.epoch = 20, 2
    hook.after_val_epoch(runner, {"G1/MSE": -1.0})
    assert [(e["epoch"], e["metrics"]["G1/MSE"]) for e in read_history(runner.work_dir)] == [
        (1, 10.0),
        (2, -1.0),
    ]


@pytest.mark.parametrize("batch", [1, 5])
def test_epochs_that_have_other_iterations_than_before(tmp_path, batch):
    tiny_runner(tmp_path, epochs=3).train()
    options = dict(epochs=4, train_dataloader=dict(loader(10), batch_size=batch))
    run = tiny_runner(tmp_path, resume=tmp_path / "epoch_2.pth", **options)
    run.train()
    assert [entry["epoch"] for entry in read_history(tmp_path)] == [1, 2, 3, 4]
    assert read_history(tmp_path)[-1]["iter"] == 4 * 10 // batch


class Slow(Hook):
    """Takes its time in training, and more of it in evaluations and for checkpoints."""

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        time.sleep(0.02)

    def before_val_epoch(self, runner):
        time.sleep(0.5)

    def before_save_checkpoint(self, runner, checkpoint):
        time.sleep(0.5)


def test_clocks_of_a_run_by_iterations(tmp_path):
    run = tiny_runner(
        tmp_path,
        train_dataloader=loader(16),  # mmengine waits for two seconds where it begins anew.
        train_cfg=dict(by_epoch=False, max_iters=8, val_interval=4),
        default_hooks=dict(checkpoint=dict(type="CheckpointHook", interval=3, by_epoch=False)),
        custom_hooks=[dict(type="LossHook"), dict(type="HistoryHook")],
    )
    run.register_hook(Slow(), priority="LOWEST")  # After the clocks have stopped.
    run.train()
    first, last = read_history(tmp_path)
    assert (first["iter"], last["iter"]) == (4, 8)
    kept = torch.load(tmp_path / "iter_6.pth")["message_hub"]["runtime_info"]["train_seconds"]
    assert 0.08 <= first["train_seconds"] <= kept - 0.04
    assert kept + 0.04 <= last["train_seconds"] < 0.5


def test_an_evaluation_by_itself_is_no_part_of_the_history(tmp_path):
    tiny_runner(tmp_path, epochs=2).train()
    before = read_history(tmp_path)
    run = tiny_runner(tmp_path, train_dataloader=None, train_cfg=None, optim_wrapper=None,
                      default_hooks=dict(checkpoint=dict(type="CheckpointHook")))  # fmt: skip
    run.val()
    assert read_history(tmp_path) == before


def test_a_new_run_begins_its_history(tmp_path):
    hooks = [dict(type="LossHook"), dict(type="HistoryHook")]  # which do not clear the folder
    tiny_runner(tmp_path, epochs=3, custom_hooks=hooks).train()
    train_cfg = dict(by_epoch=True, max_epochs=4, val_interval=2)
    tiny_runner(tmp_path, train_cfg=train_cfg, custom_hooks=hooks).train()
    assert [entry["epoch"] for entry in read_history(tmp_path)] == [2, 4]


def test_numbers_of_others_metrics(runner):
    values = dict(a=np.float32(0.5), b=torch.tensor(2.0), c=np.array([1, 2]))
    HistoryHook().after_val_epoch(runner, values)
    assert read_history(runner.work_dir)[0]["metrics"] == dict(a=0.5, b=2.0, c=[1, 2])


def test_photographs_are_kept_where_the_metric_has_them(runner):
    runner.val_loop.evaluator.metrics[0].photographs = {"china": {"G1/MSE": 1.0}}
    HistoryHook().after_val_epoch(runner, {})
    assert read_history(runner.work_dir)[0]["photographs"] == {"china": {"G1/MSE": 1.0}}


def test_damaged_history_is_named(tmp_path):
    assert read_history(tmp_path) == []
    (tmp_path / "history.jsonl").write_text(json.dumps({"epoch": 1}) + "\n{")
    with pytest.raises(ValueError, match=r"history\.jsonl: this is not a history"):
        read_history(tmp_path)
