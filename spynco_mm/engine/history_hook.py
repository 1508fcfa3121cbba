"""What every evaluation of a run measured, and what the training had cost until then."""

import json
import time
from functools import partial
from pathlib import Path

from mmagic.registry import HOOKS
from mmengine.dist import broadcast_object_list, master_only
from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, IterBasedTrainLoop, Runner

from spynco_mm.utils.files import write_atomically

from .report_hook import metrics_of

FILE = "history.jsonl"


def read_history(work_dir: str | Path) -> "list[dict]":
    """The evaluations of a run in the order of their epochs; empty if there is none yet.

    Args:
        work_dir: Folder of the run.

    Raises:
        ValueError: The file is damaged.
    """
    path = Path(work_dir, FILE)
    if not path.is_file():
        return []
    try:
        return [json.loads(line) for line in path.read_text().splitlines()]
    except ValueError as error:
        raise ValueError(f"{path}: this is not a history of a run ({error}).") from error


@HOOKS.register_module()
class HistoryHook(Hook):
    """Adds a line to ``<work_dir>/history.jsonl`` after each validation, when all is done for it.

    A line holds ``epoch``, ``iter``, ``metrics`` (flat names to numbers), ``train_seconds`` and
    ``train_cpu_seconds``, the wall-clock and processor time of rank 0 in training until then,
    evaluations and checkpoints not counted; and ``photographs`` where a
    ``ColorizationMetric`` keeps them. A resumed run replaces what comes after its checkpoint, and
    goes on counting from there.

    A checkpoint is of the moment before its epoch's evaluation, always: mmengine would write the
    best one a second time, in the middle of what follows from the evaluation. So a resumed run
    repeats that evaluation with all that follows: the log, the best checkpoint, schedulers that
    look at metrics, early stopping, and the line. Nothing is missing and nothing counts twice,
    whenever the run was killed.
    """

    # After all that follows from an evaluation, and, before training, after all hooks are ready.
    priority = "LOWEST"

    def __init__(self):
        self._last_checkpoints = []
        self._saved = self._fresh = False

    def before_train(self, runner: Runner) -> None:
        """Repeat the evaluation of what was loaded, unless all is done."""
        loop, epoch = runner.train_loop, runner.epoch
        self._fresh = not runner._resume
        if epoch == 0 or runner.val_loop is None or not isinstance(loop, EpochBasedTrainLoop):
            return
        found = [[entry["epoch"] for entry in read_history(runner.work_dir)]]
        broadcast_object_list(found)  # All processes do what rank 0 finds.
        recorded = found[0]
        due = epoch % loop.val_interval == 0 or epoch == loop.max_epochs or epoch in recorded
        finished = epoch >= loop.max_epochs and recorded[-1:] == [epoch]
        if due and epoch >= loop.val_begin and not finished:
            runner.logger.info(
                f"The checkpoint of epoch {epoch} is from before its evaluation, which is made now."
            )
            runner.val_loop.run()

    def before_train_epoch(self, runner: Runner) -> None:
        """Start the clocks."""
        self._start = time.perf_counter(), time.process_time()

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        """Stop the clocks at the end of an epoch, before the checkpoint that will keep them."""
        by_epoch = isinstance(runner._train_loop, EpochBasedTrainLoop)
        if by_epoch and self.end_of_epoch(runner.train_dataloader, batch_idx):
            self._stop(runner)
        elif self._saved and not by_epoch:
            self.before_train_epoch(runner)
        self._saved = False

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Stop the clocks of a run by iterations, and let the checkpoint have them."""
        if isinstance(runner._train_loop, IterBasedTrainLoop):
            self._stop(runner)
            checkpoint["message_hub"] = runner.message_hub.state_dict()
            self._saved = True

    def _stop(self, runner: Runner) -> None:
        now = time.perf_counter(), time.process_time()
        for name, start, end in zip(("train_seconds", "train_cpu_seconds"), self._start, now):
            spent = runner.message_hub.runtime_info.get(name, 0.0)
            runner.message_hub.update_info(name, spent + end - start)
        self._start = now

    def before_val_epoch(self, runner: Runner) -> None:
        """Stop the clocks, and keep mmengine from writing the checkpoint a second time."""
        if isinstance(runner._train_loop, IterBasedTrainLoop):
            self._stop(runner)
        if isinstance(runner._train_loop, EpochBasedTrainLoop):
            hooks = [hook for hook in runner.hooks if isinstance(hook, CheckpointHook)]
            self._last_checkpoints = [(hook, hook.last_ckpt) for hook in hooks]
            for hook in hooks:
                hook.last_ckpt = None

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Add the line, and start the clocks."""
        for hook, path in self._last_checkpoints:
            hook.last_ckpt = path
        self._last_checkpoints = []
        if isinstance(runner._train_loop, BaseLoop):  # No evaluation by itself.
            self._record(runner, metrics)
            self.before_train_epoch(runner)

    @master_only
    def _record(self, runner: Runner, metrics: dict | None) -> None:
        info = runner.message_hub.runtime_info
        line = dict(
            epoch=runner.epoch,
            iter=runner.iter,
            train_seconds=info.get("train_seconds", 0.0),
            train_cpu_seconds=info.get("train_cpu_seconds", 0.0),
            metrics=metrics,
        )
        for metric in metrics_of(runner.val_loop):
            if getattr(metric, "photographs", None):
                line["photographs"] = metric.photographs
        # With another batch than before the resume, the same epochs are other iterations.
        count = "epoch" if isinstance(runner._train_loop, EpochBasedTrainLoop) else "iter"
        before = [] if self._fresh else read_history(runner.work_dir)
        before = [entry for entry in before if entry[count] < line[count]]
        self._fresh = False
        # Somebody's metric may be a tensor, or a number of NumPy's.
        dumps = partial(json.dumps, default=lambda value: value.tolist())
        text = "".join(dumps(entry) + "\n" for entry in [*before, line])
        write_atomically(Path(runner.work_dir, FILE), text.encode())
