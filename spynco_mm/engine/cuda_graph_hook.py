"""The training step as one CUDA graph."""

import torch
from mmagic.registry import HOOKS
from mmengine.dist import is_distributed
from mmengine.hooks import Hook
from mmengine.optim import AmpOptimWrapper, OptimWrapper, OptimWrapperDict
from mmengine.runner import Runner
from torch import nn

from spynco_mm.models import SpyncoGAN
from spynco_mm.models.adapter import unwrapped

from .captured_update import CapturedUpdate
from .compile_hook import CompileHook


@HOOKS.register_module()
class CUDAGraphHook(Hook):
    """Captures SpyncoGAN's training step, once it has run a few times, and replays it.

    A step is over a thousand small operations, and on a GPU most of its time passes with starting
    them. A CUDA graph starts all at once: forward, backward, the average of the gradients over the
    processes, both optimizers and the image pools, and the same numbers come out. See
    :class:`~spynco_mm.engine.captured_update.CapturedUpdate` for how learning rates and batches
    of another size get along with it. Checkpoints are the same with and without.

    The graph keeps the memory of a step for itself, beside what evaluation takes.

    Without a GPU nothing happens. Where a step cannot be captured, the log says why, and the run
    goes on without: another model than SpyncoGAN; accumulated gradients; a loss scale, which
    float16 needs and bfloat16 does not (``loss_scale=dict(enabled=False)``); an optimizer without
    ``capturable``; hooks inside the networks; whatever compiles the step as a whole or captures
    graphs by itself; collectives of other than NCCL.

    In several processes, DistributedDataParallel has brought all networks to the same weights when
    this hook comes, and SpyncoGAN averages gradients without it. What it attaches to the weights
    cannot be captured, so it is taken off the networks.

    Args:
        enabled: False for ordinary steps only.
        warmup: Ordinary steps before the capture, at least 1; compiling is done in them.
    """

    # Before the hooks that copy the model.
    priority = "VERY_HIGH"

    def __init__(self, enabled: bool = True, warmup: int = 5):
        if warmup < 1:
            raise ValueError(f"CUDAGraphHook: warmup must be at least 1, got {warmup}.")
        self.enabled, self.warmup = enabled, warmup
        self._model = None

    def before_run(self, runner: Runner) -> None:
        """Find out whether a step can be captured."""
        model = unwrapped(runner.model)
        if not self.enabled or not isinstance(
            runner.optim_wrapper, (OptimWrapper, OptimWrapperDict)
        ):
            return  # Only a training has built them.
        if not runs_on_gpu(model):
            return
        if reason := obstacle(runner, model):
            runner.logger.info(f"The training step is not captured as a CUDA graph: {reason}.")
            return
        self._model = model
        for name, network in list(model.named_children()):
            setattr(model, name, unwrapped(network))

    def before_train(self, runner: Runner) -> None:
        """From now on ``train_step`` updates through the graph."""
        if self._model is not None:
            self._model.update = CapturedUpdate(self._model, self.warmup, runner.logger.info)

    def after_train(self, runner: Runner) -> None:
        """Give the graph's memory back."""
        if self._model is not None:
            del self._model.update
            self._model = None


def runs_on_gpu(model: nn.Module) -> bool:
    """Whether CUDA runs the model."""
    parameter = next(model.parameters(), None)
    return parameter is not None and parameter.is_cuda


def obstacle(runner: Runner, model: nn.Module) -> "str | None":
    """Why the training step of a run cannot be captured; None if nothing is known against it."""
    if not isinstance(model, SpyncoGAN):
        return f"that is done for SpyncoGAN, not for {type(model).__name__}"
    if runner.cfg.get("compile"):
        return "the config's 'compile' compiles it as a whole; --compile compiles the networks"
    for hook in runner.hooks:
        if isinstance(hook, CompileHook) and (
            hook.options.get("mode") in ("reduce-overhead", "max-autotune")
            or (hook.options.get("options") or {}).get("triton.cudagraphs")
        ):
            return "the networks are compiled in a mode that captures graphs of its own"
    if torch.is_anomaly_enabled():
        return "autograd looks for anomalies, and so waits for values"
    if is_distributed():
        backend = torch.distributed.get_backend()
        if "nccl" not in backend:
            return f"{backend} averages the gradients, and not NCCL"
    for name, wrapper in runner.optim_wrapper.items():
        if reason := _obstacle_of(wrapper):
            return f"{name}: {reason}"
    for name, module in model.named_modules():
        if module._forward_hooks or module._forward_pre_hooks or module._backward_hooks:
            return f"{name} has hooks, which would be called once"
    for name, parameter in model.named_parameters():
        if parameter._backward_hooks:
            return f"{name} has hooks, which would be called once"
    return None


def _obstacle_of(wrapper: OptimWrapper) -> "str | None":
    """What an optimizer wrapper has against it."""
    if type(wrapper) not in (OptimWrapper, AmpOptimWrapper):
        return f"{type(wrapper).__name__} is no OptimWrapper or AmpOptimWrapper"
    if wrapper._accumulative_counts > 1:
        return f"gradients are accumulated over {wrapper._accumulative_counts} iterations"
    if isinstance(wrapper, AmpOptimWrapper) and wrapper.loss_scaler.is_enabled():
        return "the loss is scaled; bfloat16 needs no scale (loss_scale=dict(enabled=False))"
    if "capturable" not in wrapper.optimizer.defaults:
        return f"{type(wrapper.optimizer).__name__} is not capturable; Adam is"
    if (wrapper.clip_grad_kwargs or {}).get("error_if_nonfinite"):
        return "clip_grad with error_if_nonfinite waits for the norm"
    return None
