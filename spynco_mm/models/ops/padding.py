"""Pictures of any size, made to fit a network."""

import torch
from torch import Tensor

from .backend import exported


def pad_to_fit(x: Tensor, multiple: int, minimum: int = 1) -> Tensor:
    """Extend N×C×H×W at the bottom and right, by reflection, as often as it takes.

    One row or column has nothing to reflect and is repeated. Recorded for another program, the size
    is computed there, for every picture anew, if the example was one to be extended.

    Args:
        x: Pictures.
        multiple: H and W become multiples of it.
        minimum: H and W become at least as large.
    """
    for dim in (2, 3):
        size = x.shape[dim]
        padded = _larger((size + multiple - 1) // multiple * multiple, minimum)
        if padded != size:
            index = torch.arange(padded, device=x.device) % _larger(2 * size - 2, 1)
            index = torch.minimum(index, 2 * size - 2 - index).clamp_min(0)
            x = x.index_select(dim, index)
    return x


def _larger(a: int, b: int) -> int:
    """``max``, which a recording would take for a constant."""
    if exported():
        return torch.maximum(torch.as_tensor(a), torch.as_tensor(b))
    return max(a, b)
