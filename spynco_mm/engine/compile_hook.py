"""Networks compiled one by one."""

from mmagic.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn


def networks(model: nn.Module) -> "dict[str, nn.Module]":
    """The networks of a translation model by name, such as ``generator`` or ``generators.color``.

    Of any model: its children, and the entries of those that are a ``ModuleDict``, that have
    parameters; without the wrappers of distributed training.
    """
    found = {}
    for name, child in (model.module if is_model_wrapper(model) else model).named_children():
        child = child.module if is_model_wrapper(child) else child
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
        **options: Of ``torch.compile``. ``mode="reduce-overhead"`` records CUDA graphs.
    """

    def __init__(self, **options):
        self.options = options

    def before_run(self, runner: Runner) -> None:
        """Compile; the work is done in the first iterations, once for each shape."""
        compiled = networks(runner.model)
        for network in compiled.values():
            network.compile(**self.options)
        runner.logger.info(f"Compiling {', '.join(compiled)} in the first iterations.")
