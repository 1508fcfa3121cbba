"""Resuming with other settings than a checkpoint was made with.

mmengine continues the optimizers and schedulers of the checkpoint as they were, in iterations. With
another batch, another number of processes, of epochs or another learning rate these are not the
ones of the config, and the run goes on at wrong rates without a word. Here the config is what
counts: an epoch stays an epoch, and the schedule is followed anew up to the checkpoint's.
"""

import warnings
from collections.abc import Iterator

from mmengine.dist import get_world_size
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import Runner

from spynco_mm.utils.checkpoint import parse_config, type_name

#: Entries of a scheduler's state that it counts while it runs; the others are its settings.
COUNTERS = {"last_step", "_global_step", "_last_value", "best", "num_bad_epochs"}
COUNTERS |= {"cooldown_counter", "verbose"}


def settings_of(runner: Runner) -> dict:
    """What the rates and steps of a run depend on, for the ``meta`` of its checkpoints."""
    wrapper = runner.optim_wrapper
    wrappers = wrapper.values() if isinstance(wrapper, OptimWrapperDict) else [wrapper]
    return dict(
        processes=get_world_size(),
        batch_size=runner.train_dataloader.batch_size,
        iterations_per_epoch=len(runner.train_dataloader),
        max_epochs=runner.max_epochs,
        accumulative_counts=[getattr(w, "_accumulative_counts", 1) for w in wrappers],
    )


def _settings_of_checkpoint(checkpoint: dict) -> dict:
    """The same settings of a checkpoint; of one of an older version, those its content shows."""
    meta = checkpoint["meta"]
    if isinstance(meta.get("settings"), dict):
        return meta["settings"]
    info = checkpoint["message_hub"]["runtime_info"]
    found = dict(iterations_per_epoch=info.get("max_iters", 0) // info.get("max_epochs", 1))
    if checkpoint.get("image_buffers") is not None:
        found["processes"] = len(checkpoint["image_buffers"])
    cfg = _config_of(checkpoint)
    for name, key, entry in (
        ("batch_size", "train_dataloader", "batch_size"),
        ("max_epochs", "train_cfg", "max_epochs"),
    ):
        if isinstance(cfg.get(key), dict) and entry in cfg[key]:
            found[name] = cfg[key][entry]
    return found


def _config_of(checkpoint: dict) -> dict:
    """A checkpoint's config as data; empty where it has none that is."""
    try:
        return parse_config(checkpoint["meta"]["cfg"])
    except (KeyError, TypeError, ValueError):
        return {}


def _optimizer_types(wrapper: dict) -> dict:
    """The types of optimizers in the config of an optimizer wrapper, by name."""
    parts = {"": wrapper, **{k: v for k, v in wrapper.items() if isinstance(v, dict)}}
    return {
        name: type_name(part["optimizer"].get("type"))
        for name, part in parts.items()
        if isinstance(part.get("optimizer"), dict)
    }


def _wrappers(runner: Runner, states: dict) -> Iterator[tuple[str, OptimWrapper, dict, list]]:
    """Name, wrapper, saved state and schedulers of every optimizer."""
    schedulers = runner.param_schedulers or []
    if isinstance(runner.optim_wrapper, OptimWrapperDict):
        for name, wrapper in runner.optim_wrapper.items():
            own = schedulers.get(name, []) if isinstance(schedulers, dict) else schedulers
            yield name, wrapper, states[name], own
    else:
        yield "", runner.optim_wrapper, states, schedulers


def _groups(state: dict) -> list:
    """The settings of an optimizer's parameter groups, mmengine's own group among them."""
    base = state.get("base_param_settings")
    return state["param_groups"] + ([base] if base is not None else [])


def _static(scheduler_state: dict) -> dict:
    return {key: value for key, value in scheduler_state.items() if key not in COUNTERS}


def adapt(runner: Runner, checkpoint: dict) -> list[str]:
    """Rewrite a checkpoint that is about to be resumed to the settings of the run.

    Args:
        runner: Built, with optimizers and schedulers at their start, and nothing loaded.
        checkpoint: Its ``meta``, ``optimizer`` and ``param_schedulers`` are changed in place where
            the settings differ; with the same settings it is left to the last bit.

    Returns:
        A sentence for each difference.

    Raises:
        ValueError: Going on is not well defined: the middle of an epoch, another kind of optimizer,
            gradients between two steps, a schedule that follows the evaluations together with other
            rates, or no rate left above 0.
    """
    meta = checkpoint["meta"]
    epoch = meta["epoch"]
    theirs, ours = _settings_of_checkpoint(checkpoint), settings_of(runner)
    if meta["iter"] != epoch * theirs["iterations_per_epoch"]:
        raise ValueError(
            f"The checkpoint was made after iteration {meta['iter']}, in the middle of an epoch of "
            f"{theirs['iterations_per_epoch']}, so its run cannot go on exactly; resume from the "
            "end of an epoch, or start a new run with --cfg-options load_from=..."
        )
    if epoch == 0:
        return []
    differences = [
        f"{name.replace('_', ' ')} {theirs[name]} then, {ours[name]} now"
        for name in ours
        if name in theirs and theirs[name] != ours[name]
    ]
    _check_accumulation(checkpoint, theirs, ours)
    types = _optimizer_types(runner.cfg.get("optim_wrapper", {}))
    for name, kind in _optimizer_types(_config_of(checkpoint).get("optim_wrapper", {})).items():
        if types.get(name, kind) != kind:
            raise ValueError(
                f"The checkpoint was made with the optimizer {kind}, this config has "
                f"{types[name]}, which cannot go on from its state; keep {kind}, or start a new "
                "run with --cfg-options load_from=..."
            )

    rates, follows_metrics = [], False
    saved = checkpoint.get("param_schedulers") or []
    for name, wrapper, state, schedulers in _wrappers(runner, checkpoint["optimizer"]):
        fresh, old = _groups(wrapper.state_dict()), _groups(state)
        if [len(g.get("params", ())) for g in fresh] != [len(g.get("params", ())) for g in old]:
            raise ValueError(
                f"The checkpoint's optimizer {name} has other groups of parameters than this "
                "config's; keep its paramwise_cfg, or start a new run with --cfg-options "
                "load_from=..."
            )
        for new, was in zip(fresh, old):
            # A rate that no schedule touches has no initial value of its own.
            pairs = {
                k: tuple(group.get(f"initial_{k}", group[k]) for group in (was, new))
                for k in new
                if k in was
            }
            rates += [
                f"{name} {key} {a} then, {b} now".strip()
                for key, (a, b) in pairs.items()
                if key not in ("params", "initial_lr") and a != b
            ]
        if not state.get("loss_scaler", True):
            del state["loss_scaler"]  # bfloat16 has none, and float16 begins with a new one.
        old_states = saved.get(name, []) if isinstance(saved, dict) else saved
        for scheduler, old_state in zip(schedulers, old_states):
            if getattr(scheduler, "need_val_args", False):
                follows_metrics = True
                old_state["end"] = scheduler.end  # a longer run, in epochs
        now = [_static(scheduler.state_dict()) for scheduler in schedulers]
        if now != [_static(old) for old in old_states]:
            rates.append(f"{name} schedule in iterations".strip())
    differences += dict.fromkeys(rates)

    if differences:
        if follows_metrics and rates:
            raise ValueError(
                "The learning rate of this config follows the evaluations, so it cannot be told "
                f"what it would be with other settings ({', '.join(differences)}); keep the "
                "checkpoint's settings, or start a new run with --cfg-options load_from=..."
            )
        meta["iter"] = epoch * ours["iterations_per_epoch"]
        if not follows_metrics:
            _follow_schedule(runner, checkpoint, epoch, ours["iterations_per_epoch"])
    _check_rates(runner, checkpoint, epoch)
    return differences


def _check_accumulation(checkpoint: dict, theirs: dict, ours: dict) -> None:
    """Refuse to go on between two steps of an optimizer, unless it is with the same gradients.

    What the optimizers had counted is left out where it is not what they would have.
    """
    counts, meta = ours["accumulative_counts"], checkpoint["meta"]
    iteration = meta["epoch"] * ours["iterations_per_epoch"]
    has_gradients = "gradients" in checkpoint
    same = iteration == meta["iter"] and counts == theirs.get("accumulative_counts", counts)
    if not same:
        checkpoint.pop("counts", None)  # They follow from the iteration.
    if (has_gradients or any(iteration % n for n in counts)) and not (has_gradients and same):
        raise ValueError(
            f"Epoch {meta['epoch']} ends between two steps of an optimizer, since it accumulates "
            "gradients, and the checkpoint has not those that this config would; keep its batch, "
            "processes and accumulative_counts, or resume from an epoch that ends with a step."
        )


def _follow_schedule(runner: Runner, checkpoint: dict, epochs: int, iterations: int) -> None:
    """Put the rates that the run's own schedule has after so many epochs into a checkpoint."""
    saved = {}
    for name, wrapper, state, schedulers in _wrappers(runner, checkpoint["optimizer"]):
        by_iter = [scheduler for scheduler in schedulers if not scheduler.by_epoch]
        by_epoch = [scheduler for scheduler in schedulers if scheduler.by_epoch]
        with warnings.catch_warnings():
            # That no optimizer steps in between.
            warnings.simplefilter("ignore", UserWarning)
            for _ in range(epochs):
                for _ in range(iterations if by_iter else 0):
                    for scheduler in by_iter:
                        scheduler.step()
                for scheduler in by_epoch:
                    scheduler.step()
        fresh = wrapper.state_dict()
        for key in ("param_groups", "base_param_settings"):
            if key in state:
                state[key] = fresh[key]
        saved[name] = [scheduler.state_dict() for scheduler in schedulers]
    if runner.param_schedulers is not None:
        single = not isinstance(runner.param_schedulers, dict)
        checkpoint["param_schedulers"] = next(iter(saved.values())) if single else saved


def _check_rates(runner: Runner, checkpoint: dict, epoch: int) -> None:
    """Refuse to train at rates of 0 to the end."""
    left = runner.max_epochs - epoch
    if left <= 0:
        return
    optimizers = [state for _, _, state, _ in _wrappers(runner, checkpoint["optimizer"])]
    saved = checkpoint.get("param_schedulers") or []
    lists = saved.values() if isinstance(saved, dict) else [saved]
    later = any(state["end"] > state["_global_step"] for states in lists for state in states)
    if not later and all(g["lr"] == 0 for state in optimizers for g in state["param_groups"]):
        raise ValueError(
            f"The learning rate is 0 from epoch {epoch + 1} on, so the {left} epochs that are left "
            "would train nothing: the schedule of this config ends before train_cfg.max_epochs; "
            "set param_scheduler.0.end, or leave it out to follow max_epochs."
        )
