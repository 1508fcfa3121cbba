"""What a fast form may ask about where and by what it is computed."""

import functools
from collections.abc import Callable

import torch
from torch import Tensor


def exported() -> bool:
    """Whether operations are recorded for another program, by ``torch.jit.trace``."""
    return torch.jit.is_tracing()


def compiled() -> bool:
    """Whether a compiler takes the operations: it fuses and recomputes by itself."""
    return torch.compiler.is_compiling()


def on_cpu(x: Tensor) -> bool:
    """Whether a CPU computes x. Every other device is treated as a GPU."""
    return x.device.type == "cpu"


def by_hand(x: Tensor) -> bool:
    """Whether x is computed by functions of our own: on a CPU, in full precision, not compiled.

    Elsewhere plain operations do it: a compiler fuses them, a GPU wants few and large ones, and
    autocast knows their precision.
    """
    full = x.dtype in (torch.float32, torch.float64) and not torch.is_autocast_enabled("cpu")
    return on_cpu(x) and full and not compiled() and not exported()


def full_precision(x: Tensor) -> torch.autocast:
    """Computing in the precision of x, also where autocast would choose a lower one."""
    return torch.autocast(x.device.type, enabled=False)


def empty_channels_last(like: Tensor, *size: int) -> Tensor:
    """An empty N×C×H×W tensor whose channels lie last."""
    memory = dict(dtype=like.dtype, device=like.device, memory_format=torch.channels_last)
    return torch.empty(size, **memory)


def differentiable_once(backward: Callable) -> Callable:
    """Refuse second derivatives of a backward pass by hand, which would be silently wrong."""

    @functools.wraps(backward)
    def checked(ctx, *grads: Tensor):
        if torch.is_grad_enabled():
            raise RuntimeError(
                "The fast layers have no second derivatives (create_graph=True); build the network "
                "with fast=False."
            )
        return backward(ctx, *grads)

    return checked
