"""Runs that go on after a kill as if it had never happened."""

import inspect
import random

import numpy as np
import torch
from mmagic.registry import HOOKS, MODELS
from mmengine.dist import all_gather_object, get_rank, get_world_size
from mmengine.hooks import CheckpointHook, Hook
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapperDict
from mmengine.runner import Runner
from mmengine.runner.checkpoint import get_state_dict, weights_to_cpu

from spynco_mm.utils.checkpoint import describe_mismatch, parse_config

from .resume_settings import adapt, settings_of


def _image_buffers(model: torch.nn.Module) -> list:
    """The image pools of a SpyncoGAN (a list) or a CycleGAN (a dict), in a fixed order."""
    buffers = getattr(model, "image_buffers", [])
    return list(buffers.values()) if isinstance(buffers, dict) else list(buffers)


@HOOKS.register_module()
class ExactResumeHook(Hook):
    """Makes ``--resume`` continue a run as if it had never stopped.

    Every epoch starts from random states of its own, derived from the run's seed, the epoch and the
    process; so an interrupted epoch is repeated with the same draws, whatever happened before it.
    Image pools, of all processes, and the sampler's seed are part of the checkpoint beside what
    mmengine saves (weights, optimizers, schedulers, log history). A checkpoint that does not fit
    the model is refused, with the layers that differ; one without optimizers cannot be resumed.
    Checkpoints have to be written by epoch.

    Works for any model that keeps mmagic's ``GANImageBuffer`` in ``image_buffers``.
    """

    # Before CheckpointHook, which is VERY_LOW.
    priority = "LOW"

    def __init__(self):
        self._pools = None
        self._loaded = None

    def before_run(self, runner: Runner) -> None:
        """Refuse checkpoints in the middle of an epoch, which could not be exact, and settings that
        mmengine would stumble over when the first one is written.
        """
        known = inspect.signature(runner.save_checkpoint).parameters
        for hook in runner.hooks:
            if not isinstance(hook, CheckpointHook):
                continue
            if not hook.by_epoch:
                raise ValueError(
                    "ExactResumeHook resumes at the start of an epoch, but the CheckpointHook of "
                    "this config has by_epoch=False; set it to True, or leave ExactResumeHook out."
                )
            if unknown := sorted(set(hook.args) - set(known)):
                raise ValueError(f"CheckpointHook does not know {', '.join(unknown)}.")

    def before_train(self, runner: Runner) -> None:
        """Fill the pools of a resumed run, and tell the optimizers where it is.

        mmengine tells a single optimizer, which then warns of a resume between accumulated
        gradients and applies the last ones of a run, but none of a dict.
        """
        if isinstance(runner.optim_wrapper, OptimWrapperDict):
            for wrapper in runner.optim_wrapper.values():
                wrapper.initialize_count_status(runner.model, runner.iter, runner.max_iters)
        if runner.max_epochs is not None and runner.epoch >= runner.max_epochs:
            runner.logger.info(
                f"Nothing is left to train: the checkpoint is of epoch {runner.epoch} of "
                f"{runner.max_epochs}. A larger train_cfg.max_epochs goes on."
            )
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
        checkpoint["meta"]["settings"] = settings_of(runner)
        if "optimizer" in checkpoint and self._pools is not None:
            checkpoint["image_buffers"] = [
                [pool if isinstance(pool, list) else pool.cpu() for pool in pools]
                for pools in self._pools
            ]
            checkpoint["sampler_seed"] = getattr(runner.train_dataloader.sampler, "seed", None)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Refuse a checkpoint that does not fit; take over its sampler and pools to resume."""
        weights = checkpoint.get("state_dict", checkpoint)
        message = describe_mismatch(get_state_dict(self._model(runner)), weights)
        if message:
            raise ValueError(
                f"The checkpoint does not fit the model of this config: {message}; use the config "
                "it was trained with."
            )
        for difference in _other_settings(runner.cfg, checkpoint):
            runner.logger.warning(f"The checkpoint fits, but was trained otherwise: {difference}.")
        if not runner._resume:
            return
        if "optimizer" not in checkpoint:
            raise ValueError(
                f"{runner._load_from} holds weights only, so no run can be resumed from it; resume "
                "from an epoch_*.pth, or start a new run with --cfg-options load_from=..."
            )
        if differences := adapt(runner, checkpoint):
            runner.logger.warning(
                f"Resumed with other settings than the checkpoint's: {', '.join(differences)}. It "
                "goes on by epochs, with this config's learning rates."
            )
        self._loaded = checkpoint.get("image_buffers")
        if checkpoint.get("sampler_seed") is not None:
            # The sampler was built before the checkpoint was read, from the seed of this config.
            runner.train_dataloader.sampler.seed = checkpoint["sampler_seed"]

    @staticmethod
    def _model(runner: Runner) -> torch.nn.Module:
        return runner.model.module if is_model_wrapper(runner.model) else runner.model


def _other_settings(cfg: dict, checkpoint: dict) -> "list[str]":
    """Settings of the generator that differ from those of a checkpoint of the same weights."""
    text = checkpoint.get("meta", {}).get("cfg")
    try:
        theirs = parse_config(text)["model"]["generator"]
        ours = cfg["model"]["generator"]
    except (KeyError, TypeError, ValueError):  # a model of another kind, or no config that is data
        return []
    arguments = inspect.signature(MODELS.get(ours["type"])).parameters
    default = {name: argument.default for name, argument in arguments.items()}
    theirs, ours = ({**default, **settings} for settings in (theirs, ours))
    same = {"fast", "init_cfg", "return_pyramid"}  # do not change what comes out
    return [
        f"its generator had {name}={theirs.get(name)}, this one has {name}={ours.get(name)}"
        for name in sorted({*theirs, *ours} - same)
        if theirs.get(name) != ours.get(name)
    ]
