"""A training step whose operations are captured once, as a CUDA graph, and replayed."""

import gc
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from mmengine.optim import OptimWrapper, OptimWrapperDict
from torch import Tensor, nn

from spynco_mm.models import SpyncoGAN

#: Changes of a run before it goes on without graphs: whatever changes so often changes again.
CHANGES = 5


class CapturedUpdate:
    """Stands for ``SpyncoGAN.update`` on a GPU.

    The first batches of a form are updated as ever, so that all is allocated, tuned and compiled
    that is so once. Then the operations of one more are captured, which does not run them, and
    replayed for it and all later batches of its form. A replay does the same to the same places in
    memory again and knows nothing of Python:

    - The inputs are copied to where the captured ones were. The losses are copied from where they
      come, so that they last.
    - The learning rates are tensors during an update, filled from the optimizers' numbers before
      it. Outside there are only the numbers, for schedulers, logs and checkpoints.
    - If anything else changes that was captured as it was, such as a parameter's place in memory,
      what is frozen, an optimizer's betas or the weight of a loss, all begins anew, with ordinary
      updates: a part that is trained for the first time has no state in its optimizer yet, and
      one that were made in a capture would be made again by every replay.

    Batches of another form are updated as ever in between. All but the replays runs on one stream
    of its own, since autograd would draw any other one into the capture.

    Args:
        model: Its ``update`` is called with tensors, and ``optim_wrapper`` by name.
        warmup: Updates of a form before it may be captured, at least 1.
        tell: Called with a sentence, when captured and when that is not possible any more.
    """

    def __init__(self, model: SpyncoGAN, warmup: int, tell: Callable[[str], None]):
        self._model, self._update, self._pools = model, model.update, model.image_buffers
        self._parameters, self._modules = list(model.parameters()), list(model.modules())
        self._warmup, self._tell = warmup, tell
        self._seen, self._changes = Counter(), 0
        self._graph = self._form = self._state = None
        self._stream = torch.cuda.Stream()
        self._rates: list[Tensor] = []

    def __call__(self, *inputs: Tensor, optim_wrapper: OptimWrapperDict) -> dict[str, Tensor]:
        wrappers = list(optim_wrapper.values())
        self._fill_rates(wrappers)
        form = tuple((x.shape, x.dtype) for x in inputs)
        if self._changed(wrappers) and self._seen:
            self._seen.clear()
            self._changes += 1
            if self._changes == CHANGES:
                self._tell(
                    "The training step is not captured as a CUDA graph any more, since what is "
                    f"captured as it is, such as what is frozen, has changed {CHANGES} times."
                )
        due = self._seen[form] >= self._warmup and self._changes < CHANGES
        if self._graph is None and due:
            self._capture(form, inputs, optim_wrapper)
        if self._graph is not None and form == self._form:
            return self._replay(inputs, wrappers)
        self._seen[form] += 1
        present = torch.cuda.current_stream()
        self._stream.wait_stream(present)
        with torch.cuda.stream(self._stream), self._rates_on_device(wrappers):
            log_vars = self._update(*inputs, optim_wrapper=optim_wrapper)
        present.wait_stream(self._stream)
        self._changed(wrappers)  # by the update itself, as a pool that needs more room
        return log_vars

    def _release(self) -> None:
        self._graph = self._form = self._inputs = self._values = None

    # ------------------------------------------------------------------ the rates

    def _fill_rates(self, wrappers: list[OptimWrapper]) -> None:
        """Bring the present learning rates to the device, without waiting for it."""
        groups = [group for wrapper in wrappers for group in wrapper.optimizer.param_groups]
        if not self._rates:
            self._rates = [torch.zeros((), device=group["params"][0].device) for group in groups]
            for wrapper in wrappers:
                _steps_to_device(wrapper.optimizer)
                # That one is capturable and runs uncaptured is meant here, and no mistake.
                wrapper.optimizer._warned_capturable_if_run_uncaptured = True
        for rate, group in zip(self._rates, groups):
            if isinstance(group["lr"], Tensor):
                rate.copy_(group["lr"])
            else:
                rate.fill_(group["lr"])

    @contextmanager
    def _rates_on_device(self, wrappers: list[OptimWrapper]) -> Iterator[None]:
        """The optimizers read their rates there, also uncaptured, so that all updates are alike."""
        groups = [group for wrapper in wrappers for group in wrapper.optimizer.param_groups]
        before = [{key: group[key] for key in ("lr", "capturable")} for group in groups]
        for group, rate in zip(groups, self._rates):
            group.update(lr=rate, capturable=True)
        try:
            yield
        finally:
            for group, settings in zip(groups, before):
                group.update(settings)

    # ------------------------------------------------------------------ the graph

    def _changed(self, wrappers: list[OptimWrapper]) -> bool:
        """Whether anything is not as it was when this was last asked; a graph is then given up."""
        state = self._present_state(wrappers)
        if state == self._state:
            return False
        self._release()
        self._state = state
        return True

    def _present_state(self, wrappers: list[OptimWrapper]) -> tuple:
        """What an update takes for given: places in memory, and settings that are Python's."""
        optimizers = [wrapper.optimizer for wrapper in wrappers]
        losses = [getattr(self._model, name) for name in self._model.LOSSES]
        return (
            [(parameter.data_ptr(), parameter.requires_grad) for parameter in self._parameters],
            [pool.rows.data_ptr() for pool in self._pools if pool.rows is not None],
            [module.training for module in self._modules],
            [_settings(m) for loss in losses if loss is not None for m in loss.modules()],
            [id(optimizer.state) for optimizer in optimizers],
            [dict(wrapper.clip_grad_kwargs or {}) for wrapper in wrappers],
            [
                {
                    key: value
                    for key, value in group.items()
                    if key not in ("params", "lr") and not isinstance(value, Tensor)
                }
                for optimizer in optimizers
                for group in optimizer.param_groups
            ],
        )

    def _capture(self, form: tuple, inputs: tuple, optim_wrapper: OptimWrapperDict) -> None:
        """Record an update of batches of a form, without running it."""
        wrappers = list(optim_wrapper.values())
        counts = [wrapper._inner_count for wrapper in wrappers]
        self._inputs = [x.clone() for x in inputs]
        graph = torch.cuda.CUDAGraph()
        gc.collect()  # What is collected during a capture may call CUDA, and so end it.
        collects = gc.isenabled()
        gc.disable()
        try:
            # Other threads, such as NCCL's and one that pins memory, may go on meanwhile.
            with (
                torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"),
                self._rates_on_device(wrappers),
                _no_autocast_cache(),
            ):
                log_vars = self._update(*self._inputs, optim_wrapper=optim_wrapper)
                self._values = torch.stack(list(log_vars.values()))
            self._names = list(log_vars)
        except RuntimeError as error:
            self._release()
            self._changes = CHANGES
            for wrapper in wrappers:
                wrapper.zero_grad()
            while error.__context__ is not None:  # The first one is why, the others that it ended.
                error = error.__context__
            self._tell(f"The training step cannot be captured as a CUDA graph: {error}")
            return
        finally:
            if collects:
                gc.enable()
            for wrapper, count in zip(wrappers, counts):
                wrapper._inner_count = count
        self._graph, self._form = graph, form
        sizes = ", ".join("×".join(map(str, x.shape)) for x in inputs[:2])
        self._tell(f"Captured the training step as a CUDA graph, for batches of {sizes}.")

    def _replay(self, inputs: tuple, wrappers: list[OptimWrapper]) -> dict[str, Tensor]:
        for place, x in zip(self._inputs, inputs):
            place.copy_(x)
        self._graph.replay()
        for wrapper in wrappers:
            wrapper._inner_count += 1
        return dict(zip(self._names, self._values.clone().unbind()))


@contextmanager
def _no_autocast_cache() -> Iterator[None]:
    """Weights that are cast in a capture must not be taken for cast outside, nor the reverse."""
    before = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)
    try:
        yield
    finally:
        torch.set_autocast_cache_enabled(before)


def _settings(module: nn.Module) -> tuple:
    """A module's type and attributes: numbers and lists of them by value, others by identity."""
    values = {
        name: value if isinstance(value, (int, float, str)) else id(value)
        for name, value in vars(module).items()
    }
    lists = {k: [*v] for k, v in vars(module).items() if isinstance(v, (list, tuple))}
    return type(module), {**values, **lists}


def _steps_to_device(optimizer: torch.optim.Optimizer) -> None:
    """Optimizers that are not fused count their steps on the CPU, unless they are capturable."""
    for parameter, state in optimizer.state.items():
        if isinstance(state.get("step"), Tensor):
            state["step"] = state["step"].to(parameter.device)
