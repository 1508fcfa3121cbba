"""Losses that stay on the device until they are printed, and that must stay finite."""

import math

import torch
from mmagic.registry import HOOKS
from mmengine.dist import all_gather_object
from mmengine.hooks import CheckpointHook, Hook, LoggerHook
from mmengine.runner import Runner

from spynco_mm.utils.checkpoint import latest_checkpoint


@HOOKS.register_module()
class LossHook(Hook):
    """Collects the losses of an iteration without waiting for the device, and stops on NaN.

    mmengine reads every logged scalar on every iteration, and each reading waits for the GPU. This
    hook keeps them as tensors and hands them on, one by one and unchanged, when ``LoggerHook`` is
    about to print, at the end of an epoch and before a checkpoint is written. Then it also looks
    whether all are finite, on every process, so that no checkpoint is written after the first that
    is not, and all processes stop with the same sentence. Neither is a checkpoint whose weights
    are not finite, which happens when the last step before it overflowed.

    Raises:
        FloatingPointError: A loss, or a weight that is about to be saved, became NaN or infinite.
    """

    # Before RuntimeInfoHook (VERY_HIGH), which would read the scalars.
    priority = "HIGHEST"

    def __init__(self):
        self._pending: list = []

    def before_train(self, runner: Runner) -> None:
        """Take the intervals of the hooks that need the losses."""
        loggers = [hook.interval for hook in runner.hooks if isinstance(hook, LoggerHook)]
        self._interval = min(loggers, default=1)
        self._save_intervals = [
            hook.interval
            for hook in runner.hooks
            if isinstance(hook, CheckpointHook) and not hook.by_epoch
        ]

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch=None, outputs: dict | None = None
    ) -> None:
        """Keep the tensors of ``outputs``; flush before anyone needs them."""
        scalars = {
            name: outputs.pop(name)
            for name in list(outputs or {})
            if isinstance(outputs[name], torch.Tensor)
        }
        if scalars:
            values = torch.stack([value.detach().float() for value in scalars.values()])
            self._pending.append((runner.iter, list(scalars), values))
        if (
            self.every_n_inner_iters(batch_idx, self._interval)
            or self.end_of_epoch(runner.train_dataloader, batch_idx)
            or any(self.every_n_train_iters(runner, n) for n in self._save_intervals)
            or self.is_last_train_iter(runner)
        ):
            self._flush(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Look at the weights."""
        for name, weight in checkpoint["state_dict"].items():
            if not torch.isfinite(weight).all():
                self._stop(runner, f"{name} is not finite after iteration {runner.iter}")

    @staticmethod
    def _stop(runner: Runner, what: str) -> None:
        last = latest_checkpoint(runner.work_dir)
        advice = f"the last good checkpoint is {last}" if last else "no checkpoint was saved yet"
        raise FloatingPointError(
            f"{what} (epoch {runner.epoch + 1}): {advice}; lower the learning rate, switch AMP off "
            "if it is on, or look at the data."
        )

    def _flush(self, runner: Runner) -> None:
        """Hand the kept losses on, up to the first that is not finite on any process."""
        if not self._pending:
            return
        # One wait for the device, for all of them.
        rows = torch.cat([values for _, _, values in self._pending]).tolist()
        losses = [(i, name) for i, names, _ in self._pending for name in names]
        self._pending = []
        bad = [
            (iteration, name, value)
            for (iteration, name), value in zip(losses, rows)
            if not math.isfinite(value)
        ]
        # All processes take part, and so all of them stop.
        gathered = all_gather_object(bad)
        found = [(terms[0][0], rank) for rank, terms in enumerate(gathered) if terms]
        if found:
            first, rank = min(found)
            terms = [f"{name} became {value}" for i, name, value in gathered[rank] if i == first]
            where = f" on process {rank}" if len(gathered) > 1 else ""
            self._stop(runner, f"{', '.join(terms)} at iteration {first + 1}{where}")
        for (_, name), value in zip(losses, rows):
            runner.message_hub.update_scalar(f"train/{name}", value)
