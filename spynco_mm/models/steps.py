"""What a training step is made of, beside its losses."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.dist import is_distributed
from mmengine.optim import OptimWrapper
from torch import Tensor

from ..compat import average_gradients


@contextmanager
def frozen(network: torch.nn.Module | None) -> Iterator[None]:
    """No parameter of the network gets a gradient; those that are always frozen remain so."""
    parameters = [] if network is None else [p for p in network.parameters() if p.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)


def add_gradients(wrapper: OptimWrapper, loss: Tensor) -> None:
    """One of the backward passes of an iteration, as :func:`take_step` ends it.

    There is none of a network that is frozen as a whole.
    """
    if loss.requires_grad:
        wrapper.backward(wrapper.scale_loss(loss))
        wrapper._inner_count -= 1  # It counts iterations.


def take_step(wrapper: OptimWrapper) -> Tensor | None:
    """End an iteration: step on the gradients of all processes, if it is time and there are any.

    As ``OptimWrapper.update_params`` does after its backward pass, but that the gradients are
    averaged here, in one collective call, and that nothing waits for a GPU. So it can be captured
    with the rest of the step.

    Returns:
        The norm of the gradients that ``clip_grad`` found, on the device; None without clipping.
    """
    wrapper._inner_count += 1
    parameters = [p for group in wrapper.optimizer.param_groups for p in group["params"]]
    if not wrapper.should_update() or all(p.grad is None for p in parameters):
        return None
    if is_distributed():
        average_gradients(parameters)
    norms = []
    clip = getattr(wrapper, "clip_func", None)
    if clip is not None:
        # The wrapper would read the norm at once; it does not if it gets none.
        wrapper.clip_func = lambda *args, **kwargs: norms.append(clip(*args, **kwargs))
    try:
        wrapper.step()
    finally:
        if clip is not None:
            wrapper.clip_func = clip
    wrapper.zero_grad()
    return norms[0] if norms else None
