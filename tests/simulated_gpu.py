"""A GPU that computes nothing: tensors have their device, shape and type, but no values.

And, the other way round, CUDA graphs that compute, but on the CPU.
"""

import sys
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

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


#: What a GPU cannot do while it captures: give a value, or take one from the host's memory.
FORBIDDEN = ("_local_scalar_dense", "equal", "nonzero", "lift_fresh", "masked_select")


class Tape(TorchDispatchMode):
    """Operations with the very tensors they had, to be run on the same again.

    That is what a CUDA graph is: it knows places in memory, and nothing of Python, so numbers that
    were given to an operation stay what they were. Nor does capturing run anything: what was
    written to memory that was there before is undone in the end.
    """

    def __init__(self):
        super().__init__()
        self.calls, self.before = [], {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function._schema.name.removeprefix("aten::") in FORBIDDEN:
            raise RuntimeError(f"{function}: operation not permitted when stream is capturing")
        for i, argument in enumerate(function._schema.arguments):
            if argument.alias_info is not None and argument.alias_info.is_write:
                written = args[i] if i < len(args) else kwargs.get(argument.name)
                for tensor in tree_leaves(written):
                    storage = tensor.untyped_storage()
                    self.before.setdefault(storage.data_ptr(), (storage, storage.clone()))
        result = function(*args, **kwargs)
        self.calls.append((function, args, kwargs, result))
        return result

    def undo(self):
        for storage, content in self.before.values():
            storage.copy_(content)
        self.before = None

    @torch.no_grad()
    def run(self):
        for function, args, kwargs, result in self.calls:
            again = function(*args, **kwargs)
            if function.namespace == "c10d":
                again[-1].wait()
            if not function.is_view:
                for place, value in zip(tree_leaves(result), tree_leaves(again)):
                    if isinstance(place, torch.Tensor) and place is not value:
                        place.copy_(value)


class SimulatedGraph:
    """``torch.cuda.CUDAGraph``, of what runs on the CPU."""

    made = []

    def __init__(self):
        self.tape, self.replays = Tape(), 0
        self.made.append(self)

    def replay(self):
        self.tape.run()
        self.replays += 1


@contextmanager
def _capture(graph, stream, capture_error_mode):
    # "global" would forbid calls of the threads of a data loader and of NCCL.
    assert capture_error_mode == "thread_local" and stream is not None
    try:
        with graph.tape:
            yield
    finally:
        graph.tape.undo()


def simulate_graphs(monkeypatch):
    """CUDA graphs of operations on the CPU, as far as our package is concerned.

    Returns:
        The graphs that will have been made.
    """
    stream = SimpleNamespace(wait_stream=lambda other: None)
    for name, replacement in dict(
        CUDAGraph=SimulatedGraph,
        graph=_capture,
        Stream=lambda: stream,
        current_stream=lambda: stream,
        stream=lambda stream: nullcontext(),
    ).items():
        monkeypatch.setattr(torch.cuda, name, replacement)
    monkeypatch.setattr("spynco_mm.engine.cuda_graph_hook.runs_on_gpu", lambda model: True)
    monkeypatch.setattr(SimulatedGraph, "made", [])
    return SimulatedGraph.made
