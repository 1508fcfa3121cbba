"""A GPU that computes nothing: tensors have their device, shape and type, but no values."""

import sys
from contextlib import contextmanager, nullcontext

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

#: How many kernels of torch's an operation starts, if it is not one: a padding is filled and then
#: copied to, a batch norm takes the statistics first.
KERNELS = {
    "aten._unsafe_view.default": lambda args: 0,
    "aten.detach.default": lambda args: 0,
    "aten.promote_types.default": lambda args: 0,
    "aten.constant_pad_nd.default": lambda args: 2,
    "aten.native_batch_norm.default": lambda args: 2,
    "aten.native_batch_norm.out": lambda args: 2,
    "aten.mse_loss.default": lambda args: 2,
    "aten.convolution_backward.default": lambda args: sum(args[-1]),  # of what gets a gradient
    "aten.im2col.default": lambda args: len(args[0]),  # the gradient of F.fold, sample by sample
}


class Launches(TorchDispatchMode):
    """The operations on tensors, but for views and empty ones: a GPU launches each of them.

    Attributes:
        names: Of the operations.
        count: Of the kernels that they start. cuDNN's conversions between layouts are not in it,
            which it decides about by itself, nor are the optimizers'. With them, what was counted
            so for five training steps were the launches that an H200's profiler saw, to 2 %.
    """

    def __init__(self):
        super().__init__()
        self.names, self.count = [], 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.namespace == "aten" and not function.is_view and "empty" not in str(function):
            self.names.append(str(function))
            self.count += KERNELS.get(str(function), lambda args: 1)(args)
        return function(*args, **(kwargs or {}))


@contextmanager
def without_values(monkeypatch, *modules):
    """Modules are moved to torch's meta device, which has autograd, and is no CPU to our layers."""
    for module in modules:
        module.to("meta")
    for name, module in list(sys.modules.items()):
        if name.startswith("spynco_mm.models.") and hasattr(module, "full_precision"):
            # Nor does it have autocast, and so refuses to switch it off.
            monkeypatch.setattr(module, "full_precision", lambda x: nullcontext())
    with Launches() as launches:
        yield launches


@contextmanager
def simulated_gpu(*modules, autocast=None):
    """Modules are moved there. Waiting for a value and mixing devices are errors inside.

    There is no way to go backward, since autograd wants a real device. Nor does torch.autocast do
    anything without one, so ``autocast``, a type, switches on what it would.
    """
    overwrite = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        with FakeTensorMode(allow_non_fake_inputs=True):
            for module in modules:
                module.to("cuda")
            if autocast is not None:
                torch.set_autocast_enabled("cuda", True)
                torch.set_autocast_dtype("cuda", autocast)
            with Launches() as launches:
                yield launches
    finally:
        torch.set_autocast_enabled("cuda", False)
        torch.__future__.set_overwrite_module_params_on_conversion(overwrite)
