"""A 1×1 convolution, which is a matrix product of the channels at every position."""

import torch.nn.functional as F
from torch import Tensor

from .backend import compiled, exported, on_cpu

#: Dilation means nothing to a kernel of one tap, but without any, torch leaves a single thread's
#: convolution to MKL, and not to oneDNN.
DILATION = 2


def conv1x1(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, groups: int = 1, fast: bool = True
) -> Tensor:
    """N×C_in×H×W and a weight C_out×C_in (of a group) to N×C_out×H×W.

    Fast, on a CPU: by oneDNN.
    """
    plain = not fast or not on_cpu(x) or compiled() or exported()
    dilation = 1 if plain else DILATION
    return F.conv2d(x, weight[..., None, None], bias, dilation=dilation, groups=groups)
