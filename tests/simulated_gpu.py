"""A GPU that computes nothing: tensors have their device, shape and type, but no values."""

from contextlib import contextmanager

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode


class Launches(TorchDispatchMode):
    """The operations on tensors, but for views and empty ones: a GPU launches each of them."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.namespace == "aten" and not function.is_view and "empty" not in str(function):
            self.names.append(str(function))
        return function(*args, **(kwargs or {}))


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
