"""Losses that stay on the device until they are printed, and that must stay finite."""

import math
from collections import defaultdict
from functools import partial

import torch
from mmagic.registry import HOOKS
from mmengine.dist import all_gather_object
from mmengine.hooks import CheckpointHook, Hook, LoggerHook, RuntimeInfoHook
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.runner import Runner

from spynco_mm.utils.checkpoint import bare_name

from .run_folder import resume_point


@HOOKS.register_module()
class LossHook(Hook):
    """Collects the losses of an iteration without waiting for the device, and stops on NaN.

    mmengine reads every logged scalar in every iteration, and each reading waits for the GPU. This
    hook keeps the scalars as tensors. It hands them on, one by one and unchanged, when
    ``LoggerHook`` is about to print, at the end of an epoch, and before a checkpoint is written. A
    hook that asks the message hub for a loss in between gets it at once, and waits for the GPU.

    Before a print, the end of an epoch or a checkpoint, the hook also looks whether all losses are
    finite, on every process. If one is not, all processes stop with the same sentence, and no
    checkpoint is written. A checkpoint is not written either if its weights are not finite, as
    after a last step that overflowed.

    Other hooks get all of an iteration's outputs, as tensors.

    Raises:
        FloatingPointError: A loss, or a weight that is about to be saved, became NaN or infinite.
    """

    # Before all hooks that may ask for a loss.
    priority = "HIGHEST"

    def __init__(self):
        self._pending: list = []
        self._bad: list = []

    def before_train(self, runner: Runner) -> None:
        """Take the intervals of the hooks that need the losses, and come between those that read.

        ``RuntimeInfoHook`` would read each tensor at once; the message hub is asked for scalars
        that may still be here.
        """
        loggers = [hook.interval for hook in runner.hooks if isinstance(hook, LoggerHook)]
        self._interval = min(loggers, default=1)
        self._save_intervals = [
            hook.interval
            for hook in runner.hooks
            if isinstance(hook, CheckpointHook) and not hook.by_epoch
        ]
        for hook in runner.hooks:
            if isinstance(hook, RuntimeInfoHook) and "after_train_iter" not in vars(hook):
                hook.after_train_iter = partial(self._without_tensors, hook.after_train_iter)
        hub = runner.message_hub
        if "get_scalar" not in vars(hub):
            hub.get_scalar = partial(self._up_to_date, hub)

    @staticmethod
    def _without_tensors(after_train_iter, runner, batch_idx, data_batch=None, outputs=None):
        rest = {k: v for k, v in (outputs or {}).items() if not isinstance(v, torch.Tensor)}
        after_train_iter(runner, batch_idx=batch_idx, data_batch=data_batch, outputs=rest)

    def _up_to_date(self, hub: MessageHub, name: str) -> HistoryBuffer:
        if any(name == f"train/{loss}" for _, names, _ in self._pending for loss in names):
            self._hand_on(hub)
        return type(hub).get_scalar(hub, name)

    def after_train(self, runner: Runner) -> None:
        """Leave the message hub as it was."""
        vars(runner.message_hub).pop("get_scalar", None)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch=None, outputs: dict | None = None
    ) -> None:
        """Keep the tensors of ``outputs``; flush before anyone needs them."""
        by_device = defaultdict(dict)  # A model may log what it has on the CPU beside the rest.
        for name, value in (outputs or {}).items():
            if isinstance(value, torch.Tensor):
                by_device[value.device][name] = value.detach().float().reshape(())
        for scalars in by_device.values():
            # A copy, since a captured step writes its losses to the same places again.
            self._pending.append((runner.iter, list(scalars), torch.stack([*scalars.values()])))
        if (
            self.every_n_inner_iters(batch_idx, self._interval)
            or self.end_of_epoch(runner.train_dataloader, batch_idx)
            or any(self.every_n_train_iters(runner, n) for n in self._save_intervals)
            or self.is_last_train_iter(runner)
        ):
            self._flush(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Look at the weights; buffers, such as masks, may hold what they like."""
        trained = {bare_name(name) for name, _ in runner.model.named_parameters()}
        for name, weight in checkpoint["state_dict"].items():
            if bare_name(name) in trained and not torch.isfinite(weight).all():
                self._stop(runner, f"{name} is not finite after iteration {runner.iter}")

    @staticmethod
    def _stop(runner: Runner, what: str) -> None:
        last, _ = resume_point(runner.work_dir)
        advice = f"the last good checkpoint is {last}" if last else "no checkpoint was saved yet"
        raise FloatingPointError(
            f"{what} (epoch {runner.epoch + 1}): {advice}; lower the learning rate, switch AMP off "
            "if it is on, or look at the data."
        )

    def _hand_on(self, hub: MessageHub) -> None:
        """Give the kept losses to the message hub, and keep in mind those that are not finite."""
        values = {}
        for device in {stacked.device for _, _, stacked in self._pending}:
            # One wait for each device, for all of them.
            rows = [row for row in self._pending if row[2].device == device]
            losses = [(i, name) for i, names, _ in rows for name in names]
            values |= dict(zip(losses, torch.cat([row[2] for row in rows]).tolist()))
        for key in [(i, name) for i, names, _ in self._pending for name in names]:
            # A loss scale that is too large makes a norm that is not finite, and is then lowered.
            if not math.isfinite(values[key]) and not key[1].startswith("grad_norm"):
                self._bad.append((*key, values[key]))
            hub.update_scalar(f"train/{key[1]}", values[key])
        self._pending = []

    def _flush(self, runner: Runner) -> None:
        """Hand the kept losses on, and stop if one is not finite on any process."""
        self._hand_on(runner.message_hub)
        # All processes take part, and so all of them stop.
        gathered = all_gather_object(self._bad)
        found = [(terms[0][0], rank) for rank, terms in enumerate(gathered) if terms]
        if found:
            first, rank = min(found)
            terms = [f"{name} became {value}" for i, name, value in gathered[rank] if i == first]
            where = f" on process {rank}" if len(gathered) > 1 else ""
            self._stop(runner, f"{', '.join(terms)} at iteration {first + 1}{where}")
