"""A function of samples that do not depend on each other."""

from collections.abc import Callable

import torch
from torch import Tensor

from .backend import compiled, exported, on_cpu

#: About how many positions, of all its samples together, the fast form takes at a time.
POSITIONS = 2048


def few_at_a_time(function: Callable[[Tensor], Tensor], x: Tensor, fast: bool = True) -> Tensor:
    """``function`` of N×C×H×W, which must not mix the samples.

    Fast, on a CPU: of only so many samples at once that they have :data:`POSITIONS`. The backward
    pass takes the same few at a time, so that the gradients of the features between x and a small
    result are never in memory for all samples together.
    """
    if not fast or not on_cpu(x) or compiled() or exported():
        return function(x)
    count = max(1, POSITIONS // (x.shape[2] * x.shape[3]))
    if len(x) <= count:
        return function(x)
    return torch.cat([function(part) for part in x.split(count)])
