"""What every evaluation of a run measured, and what the training had cost until then."""

import json
import time
from pathlib import Path

from mmagic.registry import HOOKS
from mmengine.dist import broadcast_object_list, master_only
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner

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
    """Adds a line to ``<work_dir>/history.jsonl`` after each validation.

    A line holds ``epoch``, ``iter``, ``metrics`` (flat names to numbers), ``train_seconds`` and
    ``train_cpu_seconds``, the wall-clock and processor time of rank 0 inside training epochs until
    then, evaluations and checkpoints not counted; and ``photographs`` where a
    ``ColorizationMetric`` keeps them. A resumed run replaces what comes after its checkpoint, and
    goes on counting from there. An evaluation that was due when the checkpoint was written, and is
    not in the file, since the run was killed in between, is made up for.
    """

    def __init__(self):
        self._looked = True

    def before_train(self, runner: Runner) -> None:
        """Look later, when all hooks are ready, whether an evaluation is missing."""
        self._looked = False

    def _make_up(self, runner: Runner) -> None:
        """Evaluate what was loaded, if that is due and was not done."""
        if self._looked:
            return
        self._looked = True
        loop, epoch = runner.train_loop, runner.epoch
        if epoch == 0 or runner.val_loop is None or not isinstance(loop, EpochBasedTrainLoop):
            return
        due = epoch % loop.val_interval == 0 or epoch == loop.max_epochs
        done = [any(entry["epoch"] == epoch for entry in read_history(runner.work_dir))]
        broadcast_object_list(done)  # All processes do what rank 0 finds.
        if due and epoch >= loop.val_begin and not done[0]:
            runner.logger.info(f"The evaluation of epoch {epoch} is missing; it is made up for.")
            runner.val_loop.run()

    def after_train(self, runner: Runner) -> None:
        """The same for a run that was killed in its last evaluation."""
        self._make_up(runner)

    def before_train_epoch(self, runner: Runner) -> None:
        """Start the clocks."""
        self._make_up(runner)
        self._start = time.perf_counter(), time.process_time()

    def after_train_epoch(self, runner: Runner) -> None:
        """Stop the clocks, before the checkpoint that will keep them."""
        now = time.perf_counter(), time.process_time()
        for name, start, end in zip(("train_seconds", "train_cpu_seconds"), self._start, now):
            spent = runner.message_hub.runtime_info.get(name, 0.0)
            runner.message_hub.update_info(name, spent + end - start)

    @master_only
    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Add the line."""
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
        before = [e for e in read_history(runner.work_dir) if e["iter"] < runner.iter]
        text = "".join(json.dumps(entry) + "\n" for entry in [*before, line])
        write_atomically(Path(runner.work_dir, FILE), text.encode())
