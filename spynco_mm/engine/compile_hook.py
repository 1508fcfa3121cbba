"""Networks compiled one by one."""

import os
import shutil

from mmagic.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn
from torch.utils._triton import has_triton

from spynco_mm.models.adapter import unwrapped


def networks(model: nn.Module) -> "dict[str, nn.Module]":
    """The networks of a translation model by name, such as ``generator`` or ``generators.color``.

    Of any model: its children, and the entries of those that are a ``ModuleDict``, that have
    parameters; without the wrappers of distributed training.
    """
    found = {}
    for name, child in unwrapped(model).named_children():
        child = unwrapped(child)
        if isinstance(child, nn.ModuleDict):
            found.update({f"{name}.{key}": network for key, network in child.items()})
        else:
            found[name] = child
    return {name: child for name, child in found.items() if list(child.parameters())}


@HOOKS.register_module()
class CompileHook(Hook):
    """Compiles every network of a model by itself with ``torch.compile``.

    mmengine's ``compile`` setting takes the training step as a whole, whose image pools and losses
    are another program in each of the first iterations. A network is the same one in all.
    SpyncoGan's are one graph each: while they are compiled, its layers leave to the compiler what
    it does better, fusing and recomputing.

    Args:
        min_iters: Only if the run has so many iterations to go, so that the time of compiling comes
            back, and if there is a compiler. 0, the default: always.
        **options: Of ``torch.compile``. ``mode="reduce-overhead"`` records CUDA graphs.
    """

    def __init__(self, min_iters: int = 0, **options):
        self.min_iters, self.options = min_iters, options

    def before_train(self, runner: Runner) -> None:
        """Compile; the work is done in the first iterations, once for each shape."""
        compiled = networks(runner.model)
        names = ", ".join(compiled)
        if self.min_iters and (reason := self._reason_against(runner.max_iters - runner.iter)):
            runner.logger.info(f"Not compiling {names}: {reason}; --compile does it anyway.")
            return
        for network in compiled.values():
            network.compile(**self.options)
        runner.logger.info(f"Compiling {names} in the first iterations; --compile off does not.")

    def _reason_against(self, iters: int) -> "str | None":
        """Why compiling would not pay in a run with so many iterations to go, or not work."""
        if iters < self.min_iters:
            return f"{iters} iterations to go are too few for it to pay, {self.min_iters} do"
        if not has_triton():
            return "there is no Triton for this device"
        if not (os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")):
            return "Triton needs a C compiler, and there is none"
        return None
