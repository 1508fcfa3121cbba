"""What a checkpoint may make a run do."""

import os
import re

import torch
from mmengine.dist import master_only
from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import Runner
from mmengine.runner.checkpoint import get_state_dict

from spynco_mm.models import ExactConsistency
from spynco_mm.models.adapter import unwrapped
from spynco_mm.utils.checkpoint import CheckpointError, bare_name, same_kind

from .run_folder import leave_unnamed


class GuardHook(Hook):
    """Takes out of a loaded checkpoint what would be executed or name files of others.

    Every Runner has it, see :func:`spynco_mm.compat.add_hook_to_all_runners`. mmengine's
    ``CheckpointHook`` deletes the best checkpoint whose path it finds in the message hub of the one
    that is resumed, be it a file or a folder, and the epochs that are listed there. What is said of
    files counts only if the checkpoint lies in the folder that this run writes its own to, and then
    only names in that folder. The text of the config, which mmagic's ``VisBackend`` may execute, is
    that of this run.

    Weights of another type are converted, as PyTorch does, if both are floating point and no run is
    to go on exactly.
    """

    # Before all hooks that read the checkpoint.
    priority = "HIGHEST"

    @master_only
    def before_train(self, runner: Runner) -> None:
        """Keep ``--resume`` from taking the checkpoints of a run before for this one's."""
        named = any(type(hook).__name__ == "ExactResumeHook" for hook in runner.hooks)
        if not named and not runner._resume:
            leave_unnamed(runner.work_dir)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Change the checkpoint in place.

        Raises:
            CheckpointError: It cannot be resumed, or its weights are of another type or were
                trained for another form of a layer.
        """
        source = runner._load_from
        named = source or runner.work_dir
        if runner._resume:
            _check_progress(named, checkpoint)
        model = unwrapped(runner.model)
        _check_types(named, get_state_dict(model), checkpoint, runner._resume)
        _check_forms(named, model, checkpoint)
        hub = checkpoint.get("message_hub")
        if isinstance(hub, dict) and isinstance(hub.get("runtime_info"), dict):
            folders = [
                checkpoint_folder(hook, runner.work_dir)
                for hook in runner.hooks
                if isinstance(hook, CheckpointHook)
            ]
            if source is not None:
                its = os.path.realpath(os.path.dirname(source))
                folders = [folder for folder in folders if os.path.realpath(folder) == its]
            _keep_to_folder(hub, folders[0] if folders else None)


def _check_progress(source: str, checkpoint: dict) -> None:
    """Refuse to resume what does not say where it is."""
    meta, hub = checkpoint.get("meta"), checkpoint.get("message_hub")
    parts = ("log_scalars", "runtime_info", "resumed_keys")
    if (
        not isinstance(meta, dict)
        or not all(type(meta.get(k)) is int and meta[k] >= 0 for k in ("epoch", "iter"))
        or not isinstance(hub, dict)
        or not all(isinstance(hub.get(part), dict) for part in parts)
    ):
        raise CheckpointError(
            f"{source}: it does not say how far its run was, so it cannot be resumed; resume from "
            "an epoch_*.pth, or start a new run with --cfg-options load_from=..."
        )


def _check_types(source: str, model: dict, checkpoint: dict, resume: bool) -> None:
    """Refuse weights that cannot be converted to the type of the model's."""
    for part in ("state_dict", "ema_state_dict"):
        weights = checkpoint.get(part, checkpoint if part == "state_dict" else {})
        if not isinstance(weights, dict):
            raise CheckpointError(f"{source}: its {part} is no dict of tensors; use another one.")
        weights = {re.sub(r"^module\.", "", str(name)): value for name, value in weights.items()}
        for name in sorted(model.keys() & weights.keys()):
            ours, theirs = model[name], weights[name]
            if not isinstance(ours, torch.Tensor):
                continue  # What a module calls its extra state is its own affair.
            if not isinstance(theirs, torch.Tensor):
                raise CheckpointError(
                    f"{source}: its {name} is a {type(theirs).__name__}, not a tensor; use another "
                    "checkpoint."
                )
            if ours.dtype == theirs.dtype:
                continue
            kind = f"{source}: its {name} is {theirs.dtype}, and {ours.dtype} in the model"
            if not same_kind(ours, theirs):
                raise CheckpointError(f"{kind}; use the checkpoint of such a model.")
            if resume:
                raise CheckpointError(
                    f"{kind}, so its run cannot go on exactly; start a new one from these weights "
                    "with --cfg-options load_from=..."
                )


def _check_forms(source: str, model: torch.nn.Module, checkpoint: dict) -> None:
    """Name the file whose weights fit, but were trained with another form of a layer."""
    forms = getattr(checkpoint.get("state_dict"), "_metadata", {})
    for name, module in model.named_modules():
        form = forms.get(bare_name(name), {})
        if isinstance(module, ExactConsistency) and "version" in form:
            try:
                module.check_version(form["version"])
            except ValueError as error:
                raise CheckpointError(f"{source}: {error}") from error


def checkpoint_folder(hook: CheckpointHook, work_dir: str) -> str:
    """Where a ``CheckpointHook`` will write, which it finds out later."""
    if hook.out_dir in (None, work_dir):
        return work_dir
    return os.path.join(hook.out_dir, os.path.basename(work_dir.rstrip(os.sep)))


def _keep_to_folder(hub: dict, folder: "str | None") -> None:
    """Take out of a message hub all files but those that lie in that folder; without one, all."""
    info = hub["runtime_info"]
    kept = {}
    for key, value in info.items():
        if str(key).startswith("best_ckpt"):
            name = os.path.basename(str(value))
            if folder is None or not name.startswith("best_"):
                continue
            value = os.path.join(folder, name)
            if not os.path.exists(value):
                continue
        elif key == "keep_ckpt_ids":
            if folder is None or not isinstance(value, list):
                continue
            value = [i for i in value if type(i) is int]
        elif key in ("last_ckpt", "cfg"):
            continue
        kept[key] = value
    for key in info.keys() - kept.keys():
        hub.get("resumed_keys", {}).pop(key, None)
    hub["runtime_info"] = kept
