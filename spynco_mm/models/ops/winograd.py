"""A 3×3 convolution by Winograd's products (Lavin & Gray 2016)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .backend import by_hand, differentiable_once, empty_channels_last
from .conv1x1 import conv1x1
from .matmul import as_pixels

#: With fewer tiles of 4×4, transforming the kernel costs more than the products save.
MIN_TILES = 128
#: The points of the polynomials.
P, Q = 3 / 4, 3 / 2
PAIRS = ((P, Q), (Q, P))


def conv3x3(x: Tensor, weight: Tensor, bias: Tensor | None = None, fast: bool = True) -> Tensor:
    """A 3×3 convolution of stride 1, with zeros beyond the border.

    Fast, on a CPU, from :data:`MIN_TILES` tiles on and without bias: Winograd's F(4×4, 3×3). Other
    devices' libraries and compilers choose for themselves.

    In one dimension, four neighbouring outputs y of six inputs d and three taps g take six products
    instead of twelve, as polynomials are multiplied by their values at 0, ±p, ±q and infinity:

        U = g0 / p²q²,   (g0 ± p g1 + p² g2) / 2p²(p² - q²),   the same for q,   g2
        V = p²q² d0 - (p² + q²) d2 + d4,   (d4 - q² d2) ± p (d3 - q² d1),   ...,
            p²q² d1 - (p² + q²) d3 + d5
        y0 = M0 + ... + M4,   y1 = p (M1 - M2) + q (M3 - M4),   y2 = p² (M1 + M2) + q² (M3 + M4),
        y3 = p³ (M1 - M2) + q³ (M3 - M4) + M5                      of the products M = U V

    Along both axes these are 36 products for 16 outputs instead of 144. With the 36 values of a
    tile side by side, each with its channels, they are one 1×1 convolution in 36 groups. How much
    they round depends on the points: with the usual ±1 and ±2 it is 13 times as much as the plain
    convolution at 256 channels, with ±3/4 and ±3/2 six times, and twice in the gradients of the
    weights.

    Args:
        x: N×C_in×H×W.
        weight: C_out×C_in×3×3.
        bias: C_out, or None.
        fast: Whether to use the fast form.

    Returns:
        N×C_out×H×W.
    """
    n, _, height, width = x.shape
    if fast and bias is None and by_hand(x) and n * height * width >= 16 * MIN_TILES:
        return _Winograd.apply(x, weight)
    return F.conv2d(x, weight, bias, padding=1)


class _Winograd(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor) -> Tensor:
        inputs = _inputs(x)
        ctx.save_for_backward(inputs, weight)  # and not U, which is larger
        return _convolve(inputs, weight, x)

    @staticmethod
    @differentiable_once
    def backward(ctx, grad: Tensor):
        inputs, weight = ctx.saved_tensors
        grad_x = _convolve(_inputs(grad), weight, grad, turned=True)
        grad_m = _grad_products(grad).flatten(2, 4).flatten(0, 1)
        grad_kernel = torch.bmm(grad_m.transpose(1, 2), inputs.flatten(2, 4).flatten(0, 1))
        grad_taps = _from_taps(weight).t() @ grad_kernel.flatten(1)
        return grad_x, grad_taps.t().reshape(weight.shape)


def _convolve(inputs: Tensor, weight: Tensor, like: Tensor, turned: bool = False) -> Tensor:
    """The convolution with C_out×C_in×3×3 of an image, given as V, of the size of ``like``.

    Turned by 180°, from C_out to C_in channels, it is the one that takes gradients back.
    """
    from_taps = _from_taps(weight)
    if turned:
        from_taps, weight = from_taps.flip(1), weight.transpose(0, 1)
    kernels = (from_taps @ weight.reshape(-1, 9).t()).view(-1, weight.shape[1])
    tiles = inputs.permute(2, 3, 4, 0, 1, 5)  # [N, h, w, 6, 6, C], contiguous
    products = conv1x1(as_pixels(tiles.flatten(3).flatten(0, 2)), kernels, groups=36)
    products = products.permute(0, 2, 3, 1).view(*tiles.shape[:5], -1)
    return _outputs(products.permute(3, 4, 0, 1, 2, 5), like)


def _from_taps(weight: Tensor) -> Tensor:
    """The 36×9 matrix that makes U of nine taps."""
    p2, q2 = P**2, Q**2
    rows = [[1 / (p2 * q2), 0, 0]]
    for p, q in PAIRS:
        scale = 2 * p**2 * (p**2 - q**2)
        rows += [[1 / scale, sign * p / scale, p**2 / scale] for sign in (1, -1)]
    one_axis = weight.new_tensor([*rows, [0, 0, 1]])
    return torch.kron(one_axis, one_axis)


def _even_and_odd(even: Tensor, odd: Tensor, p: float, out: Sequence[Tensor]) -> None:
    """Two values of a polynomial: even ± p odd."""
    torch.add(even, odd, alpha=p, out=out[0])
    torch.sub(even, odd, alpha=p, out=out[1])


def _room(like: Tensor, count: int) -> Tensor:
    """An empty count×...×N×h×w×C tensor for ``count`` values of each of ``like``, ...×N×h×w×C.

    In memory it is N×h×w×count×...×C: all values of a tile side by side, each with its channels.
    """
    *others, n, h, w, channels = like.shape
    return like.new_empty(n, h, w, count, *others, channels).movedim((0, 1, 2), (-4, -3, -2))


def _inputs(x: Tensor) -> Tensor:
    """V of N×C×H×W: 6×6×N×h×w×C for h×w tiles of 4×4 outputs."""
    p2, q2 = P**2, Q**2
    right, bottom = 1 + -x.shape[3] % 4, 1 + -x.shape[2] % 4
    x = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, right, 1, bottom))
    for _ in range(2):  # Dim 2 is the width, and then, behind a new first one, the height.
        d = [x[:, :, i : x.shape[2] - 5 + i : 4] for i in range(6)]
        v = _room(d[0], 6)
        for i in (0, 1):
            torch.sub(d[4 + i], d[2 + i], alpha=p2 + q2, out=v[5 * i])
            v[5 * i].add_(d[i], alpha=p2 * q2)
        for i, (p, q) in enumerate(PAIRS):
            even, odd = (torch.sub(d[4 - j], d[2 - j], alpha=q**2) for j in (0, 1))
            _even_and_odd(even, odd, p, v[2 * i + 1 : 2 * i + 3])
        x = v
    return x


def _outputs(m: Tensor, like: Tensor) -> Tensor:
    """y of the products M, 6×6×N×h×w×C, with the H×W of ``like``."""
    p, q = P, Q
    n, h, w, channels = m.shape[2:]
    result = empty_channels_last(m, n, channels, 4 * h, 4 * w)
    y = result.permute(0, 2, 3, 1).view(n, h, 4, w, 4, channels)
    rows = _room(m[0], 4)
    for values, out in ((m, rows), (rows.movedim(1, 0), y.permute(4, 2, 0, 1, 3, 5))):
        even, odd = values[1:4:2] + values[2:5:2], values[1:4:2] - values[2:5:2]
        torch.add(values[0], even[0], out=out[0])
        out[0] += even[1]
        torch.add(odd[0] * p, odd[1], alpha=q, out=out[1])
        torch.add(even[0] * p**2, even[1], alpha=q**2, out=out[2])
        torch.add(values[5], odd[0], alpha=p**3, out=out[3])
        out[3].add_(odd[1], alpha=q**3)
    if result.shape[2:] == like.shape[2:]:
        return result
    crop = result[..., : like.shape[2], : like.shape[3]]
    return crop.contiguous(memory_format=torch.channels_last)


def _grad_products(grad: Tensor) -> Tensor:
    """The gradient of M, 6×6×N×h×w×C, from that of y."""
    right, bottom = -grad.shape[3] % 4, -grad.shape[2] % 4
    grad = F.pad(grad.permute(0, 2, 3, 1), (0, 0, 0, right, 0, bottom))
    grad = grad.unflatten(2, (-1, 4)).unflatten(1, (-1, 4))  # [N, h, 4, w, 4, C]
    for dim in (4, 3):  # A tile's width, and then, behind a new first dim, its height.
        y = grad.unbind(dim)
        m = grad.new_empty(6, *y[0].shape)
        m[0], m[5] = y[0], y[3]
        for i, (p, _) in enumerate(PAIRS):
            even, odd = (torch.add(y[j], y[2 + j], alpha=p**2) for j in (0, 1))
            _even_and_odd(even, odd, p, m[2 * i + 1 : 2 * i + 3])
        grad = m
    return grad
