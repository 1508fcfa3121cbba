"""Upstream faults of hooks, and of what they make a run save: as in ``compat.py``."""

import functools
import random

import numpy as np
import torch
from torch import nn


def _without_wrapper(wrapper, state: dict, prefix: str, metadata) -> None:
    inner = f"{prefix}module."
    for key in [key for key in state if key.startswith(inner)]:
        state[prefix + key[len(inner) :]] = state.pop(key)
    versions = getattr(state, "_metadata", {})  # of the modules, by their names without a last dot
    for key in [key for key in versions if f"{key}.".startswith(inner)]:
        versions[f"{prefix}{key[len(inner) :]}".rstrip(".")] = versions.pop(key)


def _with_wrapper(wrapper, state: dict, prefix: str, *rest) -> None:
    inner = [key for key in state if key.startswith(prefix)]
    if not any(key.startswith(f"{prefix}module.") for key in inner):
        for key in inner:
            state[f"{prefix}module.{key[len(prefix) :]}"] = state.pop(key)


def name_weights_without_wrapper() -> bool:
    """Save what ``MMSeparateDistributedDataParallel`` holds under the names that are looked for.

    It wraps each network by itself, so mmengine (0.10.7) saves ``generator.module.*``, and when it
    loads, looks through the wrappers for ``generator.*`` and finds nothing. Here each wrapper
    renames the keys of its network when it gives its state, and back when it gets one, as torch's
    own wrappers do; so an ``EMAHook``, which keeps a copy of the model, names weights alike. The
    versions of the modules, which lie beside the weights, are named as the weights are. Can go
    when ``Runner.save_checkpoint`` takes ``get_state_dict``, which unwraps, for model and average.
    """
    from mmengine.model import MMSeparateDistributedDataParallel

    if hasattr(MMSeparateDistributedDataParallel.__init__, "__wrapped__"):
        return False

    @functools.wraps(MMSeparateDistributedDataParallel.__init__)
    def init(self, module, *args, _init=MMSeparateDistributedDataParallel.__init__, **kwargs):
        _init(self, module, *args, **kwargs)
        for network in module.children():
            if isinstance(network, nn.parallel.DistributedDataParallel):
                network.register_state_dict_post_hook(_without_wrapper)
                network.register_load_state_dict_pre_hook(_with_wrapper)

    MMSeparateDistributedDataParallel.__init__ = init
    return True


def save_schedulers_as_data() -> bool:
    """Let checkpoints of runs with ``OneCycleLR`` or mmagic's ``ReduceLR`` be loaded as data.

    A scheduler's state is all that it holds: a function of ``OneCycleLR``'s, the ``MessageHub`` of
    ``ReduceLR``. One that gets its state back keeps those it has. Can go when mmengine's and
    mmagic's schedulers leave them out.
    """
    from mmengine.logging import MessageHub
    from mmengine.optim.scheduler.param_scheduler import _ParamScheduler

    if hasattr(_ParamScheduler.state_dict, "__wrapped__"):
        return False

    @functools.wraps(_ParamScheduler.state_dict)
    def state_dict(self, _state_dict=_ParamScheduler.state_dict) -> dict:
        state = _state_dict(self).items()
        return {k: v for k, v in state if not (callable(v) or isinstance(v, MessageHub))}

    _ParamScheduler.state_dict = state_dict
    return True


def keep_random_states_while_visualizing() -> bool:
    """Let mmagic's ``VisualizationHook`` draw pictures without changing the run.

    Its samplers take items from the training set and from new data loaders, in the training's own
    process, and so draw from the generators that the training draws from: a run with the hook, or
    with another interval of it, is another run. Can go when they draw from generators of their own.
    """
    from mmagic.engine.hooks import VisualizationHook

    if hasattr(VisualizationHook.vis_sample, "_states_are_kept"):
        return False

    @functools.wraps(VisualizationHook.vis_sample)
    def vis_sample(self, *args, _vis_sample=VisualizationHook.vis_sample, **kwargs):
        states = random.getstate(), np.random.get_state()
        devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
        try:
            with torch.random.fork_rng(devices):
                return _vis_sample(self, *args, **kwargs)
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])

    vis_sample._states_are_kept = True
    VisualizationHook.vis_sample = vis_sample
    return True


def show_samples_in_any_visualizer() -> bool:
    """Let mmagic's ``BasicVisualizationHook`` work with mmagic's ``Visualizer``.

    The hook hands a sample over as ``ConcatImageVisualizer`` takes it, and ``Visualizer``, which
    all configs of translation models have, needs a name and a list: a TypeError at the first
    evaluation. Can go when both take the same arguments; see also
    https://github.com/open-mmlab/mmagic/issues/2118.
    """
    from mmagic.visualization import Visualizer

    if hasattr(Visualizer.add_datasample, "__wrapped__"):
        return False

    @functools.wraps(Visualizer.add_datasample)
    def add_datasample(self, name, *args, _add=Visualizer.add_datasample, **kwargs):
        if not isinstance(name, str):
            step, count = getattr(self, "_shown", (None, 0))
            count = count + 1 if step == kwargs.get("step") else 0
            self._shown = kwargs.get("step"), count
            kwargs["gen_samples"], name = [name], f"sample_{count}"
        return _add(self, name, *args, **kwargs)

    Visualizer.add_datasample = add_datasample
    return True
