"""Losses that stay on the device until they are printed, and that must stay finite."""

from typing import Optional

import torch
from mmagic.registry import HOOKS
from mmengine.hooks import Hook, LoggerHook
from mmengine.runner import Runner


@HOOKS.register_module()
class LossHook(Hook):
    """Collects the losses of an iteration without waiting for the device, and stops on NaN.

    mmengine reads every logged scalar on every iteration, and each reading waits for the GPU. This
    hook keeps them as tensors and hands them on, one by one and unchanged, when ``LoggerHook`` is
    about to print, at the end of an epoch and before a checkpoint is written. Then it also looks
    whether all are finite, so that no checkpoint is written after the first that is not.
    """

    # Before RuntimeInfoHook (VERY_HIGH), which would read the scalars.
    priority = "HIGHEST"

    def __init__(self):
        self._names: Optional[list] = None
        self._pending: list = []
        self._interval = 1

    def before_train(self, runner: Runner) -> None:
        """Take the interval of the run's ``LoggerHook``."""
        loggers = [hook.interval for hook in runner.hooks if isinstance(hook, LoggerHook)]
        self._interval = min(loggers, default=1)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch=None, outputs: Optional[dict] = None
    ) -> None:
        """Keep the tensors of ``outputs``; flush where ``LoggerHook`` would print."""
        scalars = {
            name: outputs.pop(name)
            for name in list(outputs or {})
            if isinstance(outputs[name], torch.Tensor)
        }
        if self._names is not None and list(scalars) != self._names:
            self._flush(runner)
        if scalars:
            self._names = list(scalars)
            values = torch.stack([v.detach().float() for v in scalars.values()])
            self._pending.append((runner.iter, values))
        if self.every_n_inner_iters(batch_idx, self._interval) or self.end_of_epoch(
            runner.train_dataloader, batch_idx
        ):
            self._flush(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Look at every loss so far before the weights they led to are saved."""
        self._flush(runner)

    def _flush(self, runner: Runner) -> None:
        if not self._pending:
            return
        iterations = [iteration for iteration, _ in self._pending]
        rows = torch.stack([values for _, values in self._pending]).tolist()
        self._pending = []
        for iteration, row in zip(iterations, rows):
            for name, value in zip(self._names, row):
                if value - value != 0:  # neither NaN nor infinite
                    last = runner.message_hub.runtime_info.get("last_ckpt")
                    advice = f"the last good checkpoint is {last}" if last else "none was saved yet"
                    raise FloatingPointError(
                        f"{name} became {value} at iteration {iteration + 1} (epoch "
                        f"{runner.epoch + 1}): {advice}; lower the learning rate, or without AMP "
                        "look at the data."
                    )
                runner.message_hub.update_scalar(f"train/{name}", value)
