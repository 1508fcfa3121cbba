"""Checkpoints that survive a kill, continue a run exactly, and say so when they do not fit."""

import os
import random
from pathlib import Path
from typing import Optional, Union

import numpy as np
import torch
from mmagic.registry import HOOKS
from mmengine.dist import all_gather_object, get_rank, get_world_size
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from mmengine.runner.checkpoint import get_state_dict, weights_to_cpu


class AtomicLocalBackend(LocalBackend):
    """Local files that are either the old ones or the new ones, whenever the process is killed.

    Registered as ``atomic``: ``CheckpointHook(backend_args=dict(backend="atomic"))``.
    """

    def put(self, obj: bytes, filepath: Union[str, Path]) -> None:
        path = Path(filepath)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + ".part")
        with open(part, "wb") as file:
            file.write(obj)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)


register_backend("atomic", AtomicLocalBackend)


def latest_checkpoint(work_dir: Union[str, Path]) -> Optional[str]:
    """The newest ``epoch_*.pth`` or ``iter_*.pth`` of a work directory, None if there is none.

    It looks at the files themselves: mmengine's ``last_checkpoint`` is a note beside them, which a
    kill can leave empty or behind.
    """
    found = [
        (int(path.stem.rsplit("_", 1)[1]), str(path))
        for kind in ("epoch", "iter")
        for path in Path(work_dir).glob(f"{kind}_*.pth")
        if path.stem.rsplit("_", 1)[1].isdigit()
    ]
    return max(found)[1] if found else None


def _image_buffers(model: torch.nn.Module) -> list:
    """The image pools of a SpyncoGAN (a list) or a CycleGAN (a dict), in a fixed order."""
    buffers = getattr(model, "image_buffers", [])
    return list(buffers.values()) if isinstance(buffers, dict) else list(buffers)


@HOOKS.register_module()
class ExactResumeHook(Hook):
    """Makes ``--resume`` continue a run as if it had never stopped.

    Every epoch starts from random states of its own, derived from the run's seed, the epoch and the
    process; so an interrupted epoch is repeated with the same draws, whatever happened before it.
    Image pools, of all processes, are part of the checkpoint beside what mmengine saves (weights,
    optimizers, schedulers, log history). A checkpoint that does not fit the model is refused, with
    the layers that differ.

    Works for any model that keeps mmagic's ``GANImageBuffer`` in ``image_buffers``.
    """

    # Before CheckpointHook, which is VERY_LOW.
    priority = "LOW"

    def __init__(self):
        self._pools = None
        self._loaded = None

    def before_train(self, runner: Runner) -> None:
        """Fill the pools of a resumed run."""
        if self._loaded is None or runner.iter == 0:
            return
        if len(self._loaded) != get_world_size():
            runner.logger.warning(
                f"The checkpoint has the image pools of {len(self._loaded)} processes, this run "
                f"has {get_world_size()}: the pools are handed out in turn, so the run goes on, "
                "but not exactly as it would have."
            )
        saved = self._loaded[get_rank() % len(self._loaded)]
        for buffer, images in zip(_image_buffers(self._model(runner)), saved):
            if buffer.buffer_size:
                images = images[: buffer.buffer_size]
                buffer.image_buffer = [image[None] for image in images]
                buffer.img_num = len(images)
        self._loaded = None

    def before_train_epoch(self, runner: Runner) -> None:
        """Start the epoch from its own random states."""
        entropy = [runner.seed, runner.epoch, get_rank()]
        seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)

    def after_train_epoch(self, runner: Runner) -> None:
        """Bring the pools of all processes together; only rank 0 saves."""
        pools = [
            torch.cat(buffer.image_buffer) if buffer.buffer_size and buffer.img_num else []
            for buffer in _image_buffers(self._model(runner))
        ]
        if get_world_size() > 1:
            pools = [pool if isinstance(pool, list) else pool.cpu() for pool in pools]
            self._pools = all_gather_object(pools)
        else:
            self._pools = [pools]

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Add the pools, and write the weights under names without the distributed wrappers."""
        # mmengine saves what MMSeparateDistributedDataParallel holds as 'generator.module.*', but
        # looks for 'generator.*' when it loads, so it would find nothing.
        checkpoint["state_dict"] = weights_to_cpu(get_state_dict(self._model(runner)))
        if "optimizer" in checkpoint and self._pools is not None:
            checkpoint["image_buffers"] = [
                [pool if isinstance(pool, list) else pool.cpu() for pool in pools]
                for pools in self._pools
            ]

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Refuse a checkpoint that does not fit; keep its pools for a resumed run."""
        message = describe_mismatch(get_state_dict(self._model(runner)), checkpoint["state_dict"])
        if message:
            raise ValueError(
                f"The checkpoint does not fit the model of this config: {message}; use the config "
                "it was trained with."
            )
        self._loaded = checkpoint.get("image_buffers")

    @staticmethod
    def _model(runner: Runner) -> torch.nn.Module:
        return runner.model.module if is_model_wrapper(runner.model) else runner.model


def describe_mismatch(model: dict, checkpoint: dict, at_most: int = 8) -> str:
    """Which layers two state dicts do not share, in words; empty if they fit."""
    lines = [
        f"{name} has shape {tuple(checkpoint[name].shape)} in the checkpoint and "
        f"{tuple(value.shape)} in the model"
        for name, value in model.items()
        if name in checkpoint and checkpoint[name].shape != value.shape
    ]
    lines += [f"{name} is missing in the checkpoint" for name in model if name not in checkpoint]
    lines += [f"{name} is unknown to the model" for name in checkpoint if name not in model]
    more = f", and {len(lines) - at_most} more" if len(lines) > at_most else ""
    return ", ".join(lines[:at_most]) + more
