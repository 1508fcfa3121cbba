"""The kernel that repeated values are convolved with, summed over what is the same value."""

from torch import Tensor

from .backend import full_precision


def spread(weight: Tensor, rows: int, columns: int) -> Tensor:
    """The flipped kernel, summed over ``rows``×``columns`` shifts. There is one form only.

    A transposed convolution with it, of that stride, is the convolution with ``weight`` of features
    of which each row and column is repeated so many times; see :mod:`mapping`. The sums are a
    product with ones and zeros: one kernel forward and one backward on a GPU.

    Args:
        weight: C_out×C_in×k×l.
        rows, columns: How many times they are repeated.

    Returns:
        C_out×C_in×(k + rows - 1)×(l + columns - 1).
    """
    for dim, times in ((2, rows), (3, columns)):
        taps = weight.shape[dim]
        if times == 1:
            weight = weight.flip(dim) if taps > 1 else weight
            continue
        which = weight.new_ones(taps, taps + times - 1).triu().tril(times - 1).flip(0)
        with full_precision(weight):
            weight = (weight.movedim(dim, -1) @ which).movedim(-1, dim)
    return weight
