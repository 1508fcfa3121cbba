"""Runs that go on after a kill as if it had never happened."""

import inspect
import os
import random
from itertools import repeat
from pathlib import Path

import numpy as np
import torch
from mmagic.models.editors.cyclegan.cyclegan_modules import GANImageBuffer
from mmagic.registry import HOOKS, MODELS
from mmengine.dist import all_gather_object, get_rank, get_world_size, master_only
from mmengine.hooks import CheckpointHook, EMAHook, Hook
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import IterBasedTrainLoop, Runner, find_latest_checkpoint
from mmengine.runner.checkpoint import get_state_dict

from spynco_mm.compat import average_gradients
from spynco_mm.datasets import EpochSampler
from spynco_mm.models.adapter import unwrapped
from spynco_mm.models.image_pool import ImagePool
from spynco_mm.utils.checkpoint import by_type_name, describe_mismatch, parse_config

from . import run_folder
from .resume_settings import adapt, settings_of

#: What hooks remember from one evaluation to the next, but mmengine and mmagic do not save.
REMEMBERED = {
    "EarlyStoppingHook": ("wait_count", "best_score"),
    "ReduceLRSchedulerHook": ("sum_value", "count"),
}


def _image_buffers(model: torch.nn.Module) -> list:
    """The image pools of a SpyncoGAN (a list) or a CycleGAN (a dict), in a fixed order."""
    buffers = getattr(model, "image_buffers", [])
    return list(buffers.values()) if isinstance(buffers, dict) else list(buffers)


def _held(buffer: "ImagePool | GANImageBuffer") -> "torch.Tensor | list":
    """The images in a pool, one tensor; an empty list if there are none."""
    if isinstance(buffer, ImagePool):
        return buffer.held()
    return torch.cat(buffer.image_buffer) if buffer.buffer_size and buffer.img_num else []


def _refill(buffer: "ImagePool | GANImageBuffer", images: "torch.Tensor | list") -> None:
    """Put images into a pool, whichever kind they were in."""
    if isinstance(buffer, ImagePool):
        buffer.refill(images)
    elif buffer.buffer_size:
        images = images[: buffer.buffer_size]
        buffer.image_buffer = [image[None] for image in images]
        buffer.img_num = len(images)


def _remembering(runner: Runner) -> list:
    """The hooks of :data:`REMEMBERED`, each with its name, in the order of the config."""
    hooks = [(type(hook).__name__, hook) for hook in runner.hooks]
    return [(name, hook) for name, hook in hooks if name in REMEMBERED]


def _wrappers(runner: Runner) -> list:
    """The optimizer wrappers of a run that has begun."""
    wrapper = runner.optim_wrapper
    return list(wrapper.values()) if isinstance(wrapper, OptimWrapperDict) else [wrapper]


@HOOKS.register_module()
class ExactResumeHook(Hook):
    """Makes ``--resume`` continue a run as if it had never stopped.

    Every epoch starts from random states of its own, derived from the run's seed, the epoch and the
    process; so an interrupted epoch is repeated with the same draws, whatever happened before it.
    A data set that draws by itself in persistent workers is an exception, which is said.
    Beside what mmengine saves (weights, optimizers, schedulers, log history), a checkpoint holds
    the image pools of all processes, the sampler's seed, what :data:`REMEMBERED` names, the counts
    of the optimizers, and gradients that are accumulated beyond the end of an epoch. A checkpoint
    that does not fit the model is refused, with the layers that differ; one without optimizers
    cannot be resumed. Checkpoints have to be written by epoch, as ``epoch_*.pth``, into the work
    directory. What follows from an evaluation is exact as well with a
    ``HistoryHook``, which repeats the evaluation that comes after the checkpoint.

    The run has a name, which its checkpoints and its work directory share; what another run has
    left in that folder is set aside (see :mod:`spynco_mm.engine.run_folder`), and so is what the
    run itself has left of later epochs. Other best checkpoints of the run that the one it goes on
    from does not know are removed.

    Works for any model that keeps an ``ImagePool``, or mmagic's ``GANImageBuffer``, for each output
    in ``image_buffers``; a checkpoint holds both in the same way.
    """

    # Before CheckpointHook, which is VERY_LOW.
    priority = "LOW"

    def __init__(self):
        self._pools = None
        self._loaded = None  # the checkpoint that is resumed, less its weights
        self._run = None

    def before_run(self, runner: Runner) -> None:
        """Refuse checkpoints in the middle of an epoch, which could not be exact, those that would
        not be looked for, and settings that mmengine would stumble over when the first one is
        written.
        """
        if isinstance(runner._train_loop, IterBasedTrainLoop):
            raise ValueError(
                "ExactResumeHook resumes at the start of an epoch, but this run is counted in "
                "iterations; leave ExactResumeHook out."
            )
        known = inspect.signature(runner.save_checkpoint).parameters
        for hook in runner.hooks:
            if not isinstance(hook, CheckpointHook):
                continue
            if not hook.by_epoch:
                raise ValueError(
                    "ExactResumeHook resumes at the start of an epoch, but the CheckpointHook of "
                    "this config has by_epoch=False; set it to True, or leave ExactResumeHook out."
                )
            elsewhere = hook.out_dir not in (None, runner.work_dir)
            if elsewhere or hook.filename_tmpl != "epoch_{}.pth":
                raise ValueError(
                    "A resume looks for epoch_*.pth in the work directory, but the CheckpointHook "
                    "of this config has an out_dir or a filename_tmpl; leave these out, and name "
                    "another work directory instead."
                )
            if unknown := sorted(set(hook.args) - set(known)):
                raise ValueError(f"CheckpointHook does not know {', '.join(unknown)}.")

    def before_train(self, runner: Runner) -> None:
        """Take the folder, tell the optimizers where the run is, and give it back what it had.

        mmengine tells a single optimizer, which then warns of a resume between accumulated
        gradients and applies the last ones of a run, but none of a dict.
        """
        if isinstance(runner.optim_wrapper, OptimWrapperDict):
            counts = (self._loaded or {}).get("counts", repeat(runner.iter))
            for wrapper, count in zip(_wrappers(runner), counts):
                wrapper.initialize_count_status(runner.model, count, runner.max_iters)
        if runner.max_epochs is not None and runner.epoch >= runner.max_epochs:
            runner.logger.info(
                f"Nothing is left to train: the checkpoint is of epoch {runner.epoch} of "
                f"{runner.max_epochs}. A larger train_cfg.max_epochs goes on."
            )
        loader = runner.train_dataloader
        if loader.persistent_workers and not isinstance(loader.sampler, EpochSampler):
            runner.logger.warning(
                "The data loader's persistent_workers go on drawing from epoch to epoch, so a "
                "resumed run is not exact if its data set draws; with num_workers=0 it is."
            )
        self._take_folder(runner)
        if self._loaded is not None:
            self._find_best(runner)
            self._restore(runner)
            self._loaded = None

    @master_only
    def _take_folder(self, runner: Runner) -> None:
        loaded, found = runner._load_from, self._loaded
        if found is not None and loaded is None:  # mmengine has looked for it
            loaded = find_latest_checkpoint(runner.work_dir)
        self._run, sentence = run_folder.begin(
            runner.work_dir,
            loaded,
            resumes=found is not None,
            run=found and run_folder.run_in(found),
            epoch=runner.epoch,
        )
        if sentence:
            runner.logger.warning(sentence)

    def _find_best(self, runner: Runner) -> None:
        """Let there be at most one best checkpoint of this run, the one that it knows of.

        Its file may have been replaced by that of a later epoch before the run was killed, be in
        another folder, or be the best by another score than this config's; then the best is looked
        for anew.
        """
        info = runner.message_hub.runtime_info
        known = {os.path.realpath(info[key]) for key in info if key.startswith("best_ckpt")}
        for key in [key for key in info if key.startswith("best_score")]:
            if key.replace("best_score", "best_ckpt") not in info:  # GuardHook looked for the file.
                info.pop(key)
        hooks = [hook for hook in runner.hooks if isinstance(hook, CheckpointHook)]
        for hook in hooks:
            # One score has no name in a checkpoint, and is not to be compared with another's.
            # Which one "auto" is is not known before the first evaluation.
            one = hook.save_best and len(hook.key_indicators) == 1
            if one and hook.key_indicators != ["auto"] and "best_ckpt" in info:
                ours = f"best_{hook.key_indicators[0]}_".replace("/", "_")
                if not os.path.basename(info["best_ckpt"]).startswith(ours):
                    del info["best_ckpt"]
                    info.pop("best_score", None)
        if get_rank() or not self._run:
            return
        for file in Path(runner.work_dir).glob("best_*.pth"):
            if os.path.realpath(file) not in known and run_folder.is_of(file, self._run):
                file.unlink()

    def _restore(self, runner: Runner) -> None:
        """Give back pools, gradients and what hooks remembered."""
        everyones = self._loaded.get("image_buffers")
        if everyones:
            if len(everyones) != get_world_size():
                runner.logger.warning(
                    f"The checkpoint has the image pools of {len(everyones)} processes, this run "
                    f"has {get_world_size()}: the pools are handed out in turn, so the run goes "
                    "on, but not exactly as it would have."
                )
            saved = everyones[get_rank() % len(everyones)]
            for buffer, images in zip(_image_buffers(unwrapped(runner.model)), saved):
                _refill(buffer, images)
        if self._accumulating(runner):
            for parameter, grad in zip(
                runner.model.parameters(), self._loaded.get("gradients", [])
            ):
                parameter.grad = None if grad is None else grad.to(parameter)
        remembered = list(self._loaded.get("hooks", []))
        for name, hook in _remembering(runner):
            found = next((item for item in remembered if item[0] == name), None)
            if found:
                remembered.remove(found)
                for key in REMEMBERED[name]:
                    setattr(hook, key, found[1][key])

    def before_train_epoch(self, runner: Runner) -> None:
        """Start the epoch from its own random states."""
        entropy = [runner.seed, runner.epoch, get_rank()]
        seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)

    def after_train_epoch(self, runner: Runner) -> None:
        """Bring together what only the single processes have; only rank 0 saves."""
        pools = [_held(buffer) for buffer in _image_buffers(unwrapped(runner.model))]
        if get_world_size() > 1:
            pools = [pool if isinstance(pool, list) else pool.cpu() for pool in pools]
            self._pools = all_gather_object(pools)
            if self._accumulating(runner):
                # They would be averaged with those to come: a mean of sums is a sum of means.
                average_gradients(runner.model.parameters())
        else:
            self._pools = [pools]

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Add what mmengine leaves out."""
        checkpoint["meta"]["settings"] = settings_of(runner)
        if self._run:
            checkpoint["meta"]["run"] = self._run
        if "optimizer" not in checkpoint or self._pools is None:
            return
        checkpoint["image_buffers"] = [
            [pool if isinstance(pool, list) else pool.cpu() for pool in pools]
            for pools in self._pools
        ]
        checkpoint["sampler_seed"] = getattr(runner.train_dataloader.sampler, "seed", None)
        checkpoint["hooks"] = [
            (name, {key: getattr(hook, key) for key in REMEMBERED[name]})
            for name, hook in _remembering(runner)
        ]
        checkpoint["counts"] = [getattr(w, "_inner_count", 0) for w in _wrappers(runner)]
        if self._accumulating(runner):
            gradients = [parameter.grad for parameter in runner.model.parameters()]
            checkpoint["gradients"] = [grad if grad is None else grad.cpu() for grad in gradients]

    @staticmethod
    def _accumulating(runner: Runner) -> bool:
        """Whether gradients wait for those of a later iteration."""
        return any(
            wrapper._inner_count % wrapper._accumulative_counts
            for wrapper in _wrappers(runner)
            if isinstance(wrapper, OptimWrapper)
        )

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Refuse a checkpoint that does not fit; take over its sampler and pools to resume."""
        weights = checkpoint.get("state_dict", checkpoint)
        message = describe_mismatch(get_state_dict(unwrapped(runner.model)), weights)
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
        averages = any(isinstance(hook, EMAHook) for hook in runner.hooks)
        if "ema_state_dict" in checkpoint and not averages:
            raise ValueError(
                "The checkpoint is of a run with an EMAHook, which evaluates averaged weights and "
                "trains others, and this config has none; keep it, or start a new run from the "
                "averages with --cfg-options load_from=..."
            )
        if differences := adapt(runner, checkpoint):
            runner.logger.warning(
                f"Resumed with other settings than the checkpoint's: {', '.join(differences)}. It "
                "goes on by epochs, with this config's learning rates."
            )
        self._loaded = {key: checkpoint[key] for key in checkpoint if key != "state_dict"}
        if checkpoint.get("sampler_seed") is not None:
            # The sampler was built before the checkpoint was read, from the seed of this config.
            runner.train_dataloader.sampler.seed = checkpoint["sampler_seed"]


def _other_settings(cfg: dict, checkpoint: dict) -> "list[str]":
    """Settings of the generator that differ from those of a checkpoint of the same weights."""
    text = checkpoint.get("meta", {}).get("cfg")
    try:
        theirs = by_type_name(parse_config(text)["model"]["generator"])
        kind, ours = cfg["model"]["generator"]["type"], by_type_name(cfg["model"]["generator"])
    except (KeyError, TypeError, ValueError):  # a model of another kind, or no config that is data
        return []
    arguments = inspect.signature(MODELS.get(kind) if isinstance(kind, str) else kind).parameters
    default = {name: argument.default for name, argument in arguments.items()}
    theirs, ours = ({**default, **settings} for settings in (theirs, ours))
    same = {"fast", "init_cfg", "return_pyramid"}  # do not change what comes out
    return [
        f"its generator had {name}={theirs.get(name)}, this one has {name}={ours.get(name)}"
        for name in sorted({*theirs, *ours} - same)
        if theirs.get(name) != ours.get(name)
    ]
