"""The convolutions of SpyncoGan (section 4.1): the only place that knows how they are computed.

Each layer has two ways to the same result. The naive one is the readable reference: interpolate,
convolve, normalise, rectify, add. The fast one, ``fast=True``, never makes the upsampled copy of
wide features, since a convolution of repeated values is a sum of products at low resolution
(:class:`_UpsampledConv`, :class:`MappingConv`), needs fewer products in the residual blocks
(:class:`_WinogradConv`) and keeps less for the backward pass (:class:`_NormReLU`,
:func:`_recomputed`). It is exact up to rounding, takes any layout of memory, and is made for
channels that lie last. Where a compiler, a GPU or autocast is at work, it is plain operations on
all samples at once, and fusing and recomputing is left to a compiler.
"""

import functools
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from mmagic.models.utils import generation_init_weights
from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule
from torch import Tensor, nn


class GANModule(BaseModule):
    """A network that starts as mmagic's generators and discriminators do.

    Args:
        init_cfg: ``dict(type="normal" | "xavier" | "kaiming", gain=...)``, or mmengine's
            ``dict(type="Pretrained", checkpoint=...)``. None means normal, 0.02.
    """

    def __init__(self, init_cfg: dict | None = None):
        super().__init__(init_cfg=init_cfg or dict(type="normal", gain=0.02))
        # Not mmagic's "orthogonal": it fails on convolutions without bias.
        if self.init_cfg.get("type") not in ("normal", "xavier", "kaiming", "Pretrained"):
            raise ValueError(
                f"{type(self).__name__}: the type of init_cfg is 'normal', 'xavier', 'kaiming' or "
                f"'Pretrained', got {init_cfg}."
            )
        if self.init_cfg["type"] != "Pretrained" and (more := {*self.init_cfg} - {"type", "gain"}):
            raise ValueError(
                f"{type(self).__name__}: init_cfg has a type and a gain, not {sorted(more)}."
            )

    def init_weights(self) -> None:
        if self.init_cfg["type"] == "Pretrained":
            super().init_weights()
            return
        generation_init_weights(self, self.init_cfg["type"], self.init_cfg.get("gain", 0.02))
        self._is_init = True


def fast_layout(x: Tensor) -> Tensor:
    """N×C×H×W as the fast layers like it best in memory: channels last on a CPU."""
    return x.contiguous(memory_format=torch.channels_last) if x.device.type == "cpu" else x


def _traced() -> bool:
    """Whether a compiler or an exporter records what is computed."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()


def _hooked(*modules: nn.Module) -> bool:
    """Whether these modules have to be called, since something waits for it: spectral norm, pruning
    or whoever looks at features.
    """
    hooks = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
    return any(getattr(module, name) for module in modules for name in hooks)


def _differentiable_once(backward: Callable) -> Callable:
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


# ------------------------------------------------------------------------------- convolutions


class _InertBias(torch.autograd.Function):
    """Identity on features; a gradient of exactly 0 for a bias that has no effect on them."""

    @staticmethod
    def forward(ctx, features: Tensor, bias: Tensor) -> Tensor:
        ctx.bias_shape = bias.shape
        ctx.mark_dirty(features)  # A view could not be changed in place by what follows.
        return features

    @staticmethod
    def backward(ctx, grad: Tensor):
        return grad, grad.new_zeros(ctx.bias_shape)


class Conv2d(nn.Conv2d):
    """``nn.Conv2d`` that knows when its bias cannot matter.

    Instance norm subtracts the mean of each channel, and with it the bias of the convolution before
    it. The true gradient of such a bias is 0, but rounding makes it a little noise, which Adam
    scales up to steps of the learning rate. With ``inert_bias`` the bias is neither added nor
    moved.
    """

    inert_bias = False

    @property
    def added_bias(self) -> Tensor | None:
        """The bias, unless it is inert."""
        return None if self.inert_bias else self.bias

    def finish(self, x: Tensor) -> Tensor:
        """Give an inert bias its gradient; of features with ``added_bias``."""
        if self.inert_bias and self.bias is not None and torch.is_grad_enabled():
            return _InertBias.apply(x, self.bias)
        return x

    def forward(self, x: Tensor) -> Tensor:
        return self.finish(self._conv_forward(x, self.weight, self.added_bias))


class SeparableConv(nn.Sequential):
    """A k×1 convolution followed by a 1×k one (Mamalet & Garcia 2012), nothing in between.

    The first changes the number of channels and takes the vertical stride, the second the
    horizontal one. Neither is depthwise or grouped.

    Fast, where the input has so few channels that it is cheaper, and for zero padding and a first
    one without bias: the one k×k convolution that both are together.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: k.
        stride: Stride in both directions.
        padding: Zeros (or ``padding_mode``) on either side; None means k // 2.
        first_bias: Whether the k×1 convolution has a bias too.
        padding_mode: As in ``nn.Conv2d``.
        fast: Whether to use the fast way.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int | None = None,
        first_bias: bool = True,
        padding_mode: str = "zeros",
        fast: bool = True,
    ):
        pad = kernel_size // 2 if padding is None else padding
        super().__init__(
            Conv2d(
                in_channels,
                out_channels,
                (kernel_size, 1),
                stride=(stride, 1),
                padding=(pad, 0),
                bias=first_bias,
                padding_mode=padding_mode,
            ),
            Conv2d(
                out_channels,
                out_channels,
                (1, kernel_size),
                stride=(1, stride),
                padding=(0, pad),
                padding_mode=padding_mode,
            ),
        )
        # Products per position of the output: of both, and of the one that they are together.
        both = kernel_size * out_channels * (stride * in_channels + out_channels)
        together = kernel_size**2 * in_channels * out_channels
        self.fast = fast and padding_mode == "zeros" and not first_bias and together < both

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = self
        if not self.fast or _hooked(rows, columns):
            return super().forward(x)
        weight = torch.einsum("omx,mcy->ocyx", columns.weight[:, :, 0], rows.weight[..., 0])
        y = F.conv2d(x, weight, columns.added_bias, rows.stride[0], rows.padding[0])
        return columns.finish(y)


# ----------------------------------------------------------------------------- upsampling


def upsample(x: Tensor, mode: str, times: int = 1) -> Tensor:
    """``up(.)`` of Eq. 2, applied ``times`` times: N×C×H×W to N×C×(2^times H)×(2^times W)."""
    if mode == "nearest":
        return F.interpolate(x, scale_factor=2**times, mode=mode) if times else x
    for _ in range(times):
        x = F.interpolate(x, scale_factor=2, mode=mode, align_corners=False)
    return x


def _by_hand(x: Tensor) -> bool:
    """Whether x is convolved by functions of our own: on a CPU, in full precision, not compiled.

    Elsewhere plain operations do it: a compiler fuses them, a GPU wants few and large ones, and
    autocast knows their precision.
    """
    full = x.dtype in (torch.float32, torch.float64) and not torch.is_autocast_enabled("cpu")
    return x.device.type == "cpu" and full and not _traced()


def _channels_last(like: Tensor, *size: int) -> Tensor:
    """An empty N×C×H×W tensor whose channels lie last."""
    memory = dict(dtype=like.dtype, device=like.device, memory_format=torch.channels_last)
    return torch.empty(size, **memory)


#: Dilation means nothing to a kernel of one tap, but without any, torch leaves a single thread's
#: convolution to MKL, and not to oneDNN.
_DILATION = 2


def conv1x1(x: Tensor, weight: Tensor, bias: Tensor | None = None, groups: int = 1) -> Tensor:
    """A 1×1 convolution with a weight C_out×C_in; on a CPU by oneDNN."""
    dilation = 1 if x.is_cuda or _traced() else _DILATION
    return F.conv2d(x, weight[..., None, None], bias, dilation=dilation, groups=groups)


def _convolve_rows(rows: Tensor) -> bool:
    """Whether rows are multiplied faster by a convolution, oneDNN's, than by MKL.

    Both use AVX-512 where an Intel processor has it; on AMD's, oneDNN alone does.
    """
    wide = torch.backends.cpu.get_cpu_capability() == "AVX512"
    return wide and len(rows) >= 512


def as_pixels(rows: Tensor) -> Tensor:
    """M×C as the 1×C×M×1 of a convolution, channels last."""
    return rows.view(1, len(rows), 1, -1).permute(0, 3, 1, 2)


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``F.linear`` of M×C_in and C_out×C_in, by the faster of torch's libraries."""
    if not _convolve_rows(x):
        return F.linear(x, weight, bias)
    return conv1x1(as_pixels(x), weight, bias).permute(0, 2, 3, 1).flatten(0, 2)


def _grad_of_weight(grad: Tensor, x: Tensor) -> Tensor:
    """The gradient of the weight of :func:`_linear`, from that of its result and its input."""
    if not _convolve_rows(x):
        return grad.t() @ x
    size = (grad.shape[1], x.shape[1], 1, 1)
    pixels = as_pixels(x), size, as_pixels(grad)
    return torch.nn.grad.conv2d_weight(*pixels, dilation=_DILATION)[..., 0, 0]


def _stacked(weight: Tensor, bias: Tensor | None) -> "tuple[Tensor, Tensor | None]":
    """The three taps of C_out×C_in×3×1 or ×1×3 as one 1×1 convolution to 3·C_out channels, with the
    bias, which is in every output once, beside the one in the middle.
    """
    taps = weight.flatten(2).permute(2, 0, 1).flatten(0, 1)  # [3·C_out, C_in]
    return taps, None if bias is None else F.pad(bias, (len(bias), len(bias)))


class _UpsampledConv(torch.autograd.Function):
    """A 3-tap convolution along one axis, of features repeated twice along it.

    With taps w0, w1 and w2, and u[n] = x[n // 2], the convolution of u is

        y[2m]     = w0 x[m - 1] + (w1 + w2) x[m]  =  s[m]     + w1 x[m]
        y[2m + 1] = (w0 + w1) x[m] + w2 x[m + 1]  =  s[m + 1] + w1 x[m]

    with s[m] = w0 x[m - 1] + w2 x[m], values outside of x being 0. So three products per position
    of x are enough, instead of the six of the repetition, which is never made.

    Features lie with the channels last: the products are one matrix product, and a shift moves
    whole vectors of channels. A block of lines goes from x to y at a time, so that there is never
    room for the products of all of x.
    """

    #: Positions of x in a block, about.
    BLOCK = 4096

    @staticmethod
    def _lines(x: Tensor, dim: int) -> Tensor:
        """N×C×H×W as B×L×R×C: B lines of L positions along ``dim``, R of them side by side."""
        x = x.permute(0, 2, 3, 1).contiguous()
        return x if dim == 2 else x.flatten(0, 1).unsqueeze(2)

    @staticmethod
    def _blocks(*lines: Tensor):
        """The same few lines of each."""
        count = max(1, _UpsampledConv.BLOCK // math.prod(lines[0].shape[1:3]))
        return zip(*(part.split(count) for part in lines))

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor | None, dim: int) -> Tensor:
        """N×C_in×H×W and C_out×C_in×3×1 (dim 2) or ×1×3 (dim 3) to N×C_out×2H×W or ×H×2W."""
        ctx.save_for_backward(x, weight)
        ctx.has_bias, ctx.dim = bias is not None, dim
        taps, bias = _stacked(weight, bias)
        lines = _UpsampledConv._lines(x, dim)
        size = [2 * side if i == dim else side for i, side in enumerate(x.shape)]
        result = _channels_last(x, size[0], len(weight), *size[2:])
        phases = _UpsampledConv._lines(result, dim).unflatten(1, (-1, 2))
        for block, y in _UpsampledConv._blocks(lines, phases):
            products = _linear(block.flatten(0, 2), taps, bias).view(*block.shape[:3], -1)
            before, middle, s = products.chunk(3, dim=-1)
            s[:, 1:] += before[:, :-1]
            torch.add(s, middle, out=y[:, :, 0])
            torch.add(s[:, 1:], middle[:, :-1], out=y[:, :-1, 1])
            torch.add(before[:, -1], middle[:, -1], out=y[:, -1, 1])
        return result

    @staticmethod
    @_differentiable_once
    def backward(ctx, grad: Tensor):
        x, weight = ctx.saved_tensors
        taps, _ = _stacked(weight, None)
        lines = _UpsampledConv._lines(x, ctx.dim)
        phases = _UpsampledConv._lines(grad, ctx.dim).unflatten(1, (-1, 2))
        grad_x, grad_taps = _channels_last(x, *x.shape), torch.zeros_like(taps)
        blocks = _UpsampledConv._blocks(lines, phases, _UpsampledConv._lines(grad_x, ctx.dim))
        for block, y, grad_block in blocks:
            products = block.new_empty(*block.shape[:3], len(taps))
            before, middle, after = products.chunk(3, dim=-1)  # w2 x[m + 1] is where w0 x[m] is
            torch.add(y[:, :, 0], y[:, :, 1], out=middle)
            torch.add(y[:, :-1, 1], y[:, 1:, 0], out=before[:, :-1])
            before[:, -1] = y[:, -1, 1]
            after[:, 1:] = before[:, :-1]
            after[:, 0] = y[:, 0, 0]
            products = products.flatten(0, 2)
            grad_block.copy_(_linear(products, taps.t()).view_as(grad_block))
            grad_taps += _grad_of_weight(products, block.flatten(0, 2))
        grad_weight = grad_taps.unflatten(0, (3, -1)).permute(1, 2, 0).reshape(weight.shape)
        return grad_x, grad_weight, grad.sum((0, 2, 3)) if ctx.has_bias else None, None


def _plain_upsampled_conv(x: Tensor, conv: Conv2d, dim: int) -> Tensor:
    """:class:`_UpsampledConv` in few operations, each of all of x: y[n] = w1 x[n/2] + s[(n + 1)/2],
    rounded down.
    """
    before, middle, after = conv1x1(x, *_stacked(conv.weight, conv.added_bias)).chunk(3, 1)
    # One longer along dim than x: 0 comes before the first of w0 x, and after the last of w2 x.
    first, last = ((0, 0, 1, 0), (0, 0, 0, 1)) if dim == 2 else ((1, 0), (0, 1))
    s = F.pad(before, first) + F.pad(after, last)
    twice = (2, 1) if dim == 2 else (1, 2)
    middle, s = (F.interpolate(part, scale_factor=twice) for part in (middle, s))
    return middle + s.narrow(dim, 1, middle.shape[dim])


def _upsampled_conv(x: Tensor, conv: Conv2d, dim: int) -> Tensor:
    """``conv``, with three taps along ``dim`` only, of x repeated twice along ``dim``."""
    if _by_hand(x):
        y = _UpsampledConv.apply(x, conv.weight, conv.added_bias, dim)
    else:
        y = _plain_upsampled_conv(x, conv, dim)
    return conv.finish(y)


# ------------------------------------------------------------------------------- 3×3, stride 1


class _WinogradConv(torch.autograd.Function):
    """A 3×3 convolution of padding 1, as Winograd's F(4×4, 3×3) (Lavin & Gray 2016).

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
    """

    P, Q = 3 / 4, 3 / 2
    PAIRS = ((P, Q), (Q, P))

    @staticmethod
    def _from_taps(weight: Tensor) -> Tensor:
        """The 36×9 matrix that makes U of nine taps."""
        p2, q2 = _WinogradConv.P**2, _WinogradConv.Q**2
        rows = [[1 / (p2 * q2), 0, 0]]
        for p, q in _WinogradConv.PAIRS:
            scale = 2 * p**2 * (p**2 - q**2)
            rows += [[1 / scale, sign * p / scale, p**2 / scale] for sign in (1, -1)]
        one_axis = weight.new_tensor([*rows, [0, 0, 1]])
        return torch.kron(one_axis, one_axis)

    @staticmethod
    def _even_and_odd(even: Tensor, odd: Tensor, p: float, out: Sequence[Tensor]) -> None:
        """Two values of a polynomial: even ± p odd."""
        torch.add(even, odd, alpha=p, out=out[0])
        torch.sub(even, odd, alpha=p, out=out[1])

    @staticmethod
    def _values(like: Tensor, count: int) -> Tensor:
        """Room for so many of ``like``, ...×N×h×w×C: in front, but next to C in memory."""
        *others, n, h, w, channels = like.shape
        return like.new_empty(n, h, w, count, *others, channels).movedim((0, 1, 2), (-4, -3, -2))

    @staticmethod
    def _inputs(x: Tensor) -> Tensor:
        """V of N×C×H×W: 6×6×N×h×w×C for h×w tiles of 4×4 outputs."""
        p2, q2 = _WinogradConv.P**2, _WinogradConv.Q**2
        right, bottom = 1 + -x.shape[3] % 4, 1 + -x.shape[2] % 4
        x = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, right, 1, bottom))
        for _ in range(2):  # The axis is the columns', and then, one more in front, the rows'.
            d = [x[:, :, i : x.shape[2] - 5 + i : 4] for i in range(6)]
            v = _WinogradConv._values(d[0], 6)
            for i in (0, 1):
                torch.sub(d[4 + i], d[2 + i], alpha=p2 + q2, out=v[5 * i])
                v[5 * i].add_(d[i], alpha=p2 * q2)
            for i, (p, q) in enumerate(_WinogradConv.PAIRS):
                even, odd = (torch.sub(d[4 - j], d[2 - j], alpha=q**2) for j in (0, 1))
                _WinogradConv._even_and_odd(even, odd, p, v[2 * i + 1 : 2 * i + 3])
            x = v
        return x

    @staticmethod
    def _outputs(m: Tensor, like: Tensor) -> Tensor:
        """y of the products M, 6×6×N×h×w×C, with the H×W of ``like``."""
        p, q = _WinogradConv.P, _WinogradConv.Q
        n, h, w, channels = m.shape[2:]
        result = _channels_last(m, n, channels, 4 * h, 4 * w)
        y = result.permute(0, 2, 3, 1).view(n, h, 4, w, 4, channels)
        rows = _WinogradConv._values(m[0], 4)
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

    @staticmethod
    def _grad_products(grad: Tensor) -> Tensor:
        """The gradient of M, 6×6×N×h×w×C, from that of y."""
        right, bottom = -grad.shape[3] % 4, -grad.shape[2] % 4
        grad = F.pad(grad.permute(0, 2, 3, 1), (0, 0, 0, right, 0, bottom))
        grad = grad.unflatten(2, (-1, 4)).unflatten(1, (-1, 4))  # [N, h, 4, w, 4, C]
        for dim in (4, 3):  # the columns, and then, one more in front, the rows
            y = grad.unbind(dim)
            m = grad.new_empty(6, *y[0].shape)
            m[0], m[5] = y[0], y[3]
            for i, (p, _) in enumerate(_WinogradConv.PAIRS):
                even, odd = (torch.add(y[j], y[2 + j], alpha=p**2) for j in (0, 1))
                _WinogradConv._even_and_odd(even, odd, p, m[2 * i + 1 : 2 * i + 3])
            grad = m
        return grad

    @staticmethod
    def _convolve(inputs: Tensor, weight: Tensor, like: Tensor, turned: bool = False) -> Tensor:
        """The convolution, with the weight C_out×C_in×3×3, of what has the V ``inputs``; turned by
        180°, from C_out to C_in channels, it is the one that takes gradients back.
        """
        from_taps = _WinogradConv._from_taps(weight)
        if turned:
            from_taps, weight = from_taps.flip(1), weight.transpose(0, 1)
        kernels = (from_taps @ weight.reshape(-1, 9).t()).view(-1, weight.shape[1])
        tiles = inputs.permute(2, 3, 4, 0, 1, 5)  # as in memory
        products = conv1x1(as_pixels(tiles.flatten(3).flatten(0, 2)), kernels, groups=36)
        products = products.permute(0, 2, 3, 1).view(*tiles.shape[:5], -1)
        return _WinogradConv._outputs(products.permute(3, 4, 0, 1, 2, 5), like)

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor) -> Tensor:
        """N×C_in×H×W and C_out×C_in×3×3 to N×C_out×H×W, channels last."""
        inputs = _WinogradConv._inputs(x)
        ctx.save_for_backward(inputs, weight)  # and not U, which is larger
        return _WinogradConv._convolve(inputs, weight, x)

    @staticmethod
    @_differentiable_once
    def backward(ctx, grad: Tensor):
        inputs, weight = ctx.saved_tensors
        grad_x = _WinogradConv._convolve(_WinogradConv._inputs(grad), weight, grad, turned=True)
        grad_m = _WinogradConv._grad_products(grad).flatten(2, 4).flatten(0, 1)
        grad_kernel = torch.bmm(grad_m.transpose(1, 2), inputs.flatten(2, 4).flatten(0, 1))
        grad_taps = _WinogradConv._from_taps(weight).t() @ grad_kernel.flatten(1)
        return grad_x, grad_taps.t().reshape(weight.shape)


# ---------------------------------------------------------------------------------- blocks


class _NormReLU(torch.autograd.Function):
    """Instance norm without affine, (leaky) ReLU, and the sum with a residual, as one function.

    Apart, the norm keeps its input, the ReLU and the sum their outputs. Here only the normalised
    value y and the inverse deviation are kept, from which all gradients follow: with g the gradient
    after the ReLU's gate, the gradient of the input is

        inverse deviation · (g - mean(g) - y · mean(g y))

    the means being over a channel of a sample. The result takes the place of the input; y is
    returned too, for :func:`_recomputed`.
    """

    #: Values in a block of samples, about.
    BLOCK = 2**18

    @staticmethod
    def _blocks(*features: Tensor):
        """The same part of each. Without channels last, 1×(N·C)×H×W: the channels of all samples
        as those of one. With channels last, one sample, or a few if they are small; on a GPU all.
        """
        if features[0].is_contiguous():
            return [[x.contiguous().flatten(0, 1)[None] for x in features]]
        if features[0].is_cuda:
            return [features]
        size = max(1, _NormReLU.BLOCK // features[0][0].numel())
        return zip(*(x.split(size) for x in features))

    @staticmethod
    def _by_batch_norm(x: Tensor) -> bool:
        """Whether batch norm's kernels, the fastest for one sample, know such a block."""
        return len(x) == 1 and (x.is_cuda or x.dtype in (torch.float32, torch.float64))

    @staticmethod
    def forward(ctx, x: Tensor, residual: Tensor | None, eps: float, slope: float):
        ctx.has_residual, ctx.slope = residual is not None, slope
        ctx.mark_dirty(x)
        wide = torch.promote_types(x.dtype, torch.float32)  # for statistics of half precision
        y, inverse = torch.empty_like(x), x.new_empty(*x.shape[:2], 1, 1, dtype=wide)
        features = [x, y, inverse] if residual is None else [x, y, inverse, residual]
        for x_, y_, inverse_, *residual_ in _NormReLU._blocks(*features):
            if _NormReLU._by_batch_norm(x_):
                out = y_, torch.empty_like(inverse_).flatten(), inverse_.flatten()
                torch.native_batch_norm(x_, *[None] * 4, True, 0.0, eps, out=out)
            else:
                centered = x_ - x_.mean((2, 3), keepdim=True, dtype=wide)
                variance = centered.square().mean((2, 3), keepdim=True)
                torch.rsqrt(variance + eps, out=inverse_)
                torch.mul(centered, inverse_, out=y_)
            torch.ops.aten.leaky_relu(y_, slope, out=x_)
            if residual_:
                x_ += residual_[0]
        ctx.save_for_backward(y, inverse)
        ctx.mark_non_differentiable(y)
        ctx.set_materialize_grads(False)
        return x, y

    @staticmethod
    def _grad_block(y: Tensor, grad: Tensor, inverse: Tensor, slope: float) -> Tensor:
        """The gradient of a block of the input."""
        gated = torch.ops.aten.leaky_relu_backward(grad, y, slope, False)
        if _NormReLU._by_batch_norm(y):
            # Of an input y of mean 0 and deviation 1, with the inverse deviation as weight.
            weight = inverse.flatten()
            statistics = torch.zeros_like(weight), torch.ones_like(weight)
            return torch.ops.aten.native_batch_norm_backward(
                gated, y, weight, None, None, *statistics, True, 0.0, [True, False, False]
            )[0]
        gated = gated.to(inverse.dtype)
        correlation = (gated * y).mean((2, 3), keepdim=True)
        gated -= gated.mean((2, 3), keepdim=True)
        gated.addcmul_(y.to(inverse.dtype), correlation, value=-1)
        return gated.mul_(inverse).to(y.dtype)

    @staticmethod
    @_differentiable_once
    def backward(ctx, grad: Tensor, _):
        y, inverse = ctx.saved_tensors
        blocks = list(_NormReLU._blocks(y, grad, inverse))
        if len(blocks) == 1:
            grad_x = _NormReLU._grad_block(*blocks[0], ctx.slope).view_as(y)
        else:
            grad_x = torch.empty_like(y)
            for block, part in zip(blocks, grad_x.split([len(block[0]) for block in blocks])):
                part.copy_(_NormReLU._grad_block(*block, ctx.slope))
        return grad_x, grad if ctx.has_residual else None, None, None


def _recomputed(x: Tensor) -> AbstractContextManager:
    """While x is convolved: what would be kept of x for the backward pass is recomputed there.

    The norm before has kept its y already, from which x is one cheap function away. So the largest
    features of the network are kept once and not twice.
    """
    if not hasattr(x, "rectified_from") or _traced():
        return nullcontext()
    y, slope, version = x.rectified_from
    if x._version != version:  # changed in place since
        return nullcontext()
    address, size = x.data_ptr(), x.numel()

    def pack(saved: Tensor):
        """x itself or its values as seen by another shape; not the weights, and no part of x."""
        is_x = saved.data_ptr() == address and saved.numel() == size
        return (saved.shape, saved.stride()) if is_x else saved

    def unpack(packed) -> Tensor:
        if isinstance(packed, Tensor):
            return packed
        return F.leaky_relu(y, slope).as_strided(*packed)

    return torch.autograd.graph.saved_tensors_hooks(pack, unpack)


def few_at_a_time(function: Callable[[Tensor], Tensor], x: Tensor, positions: int = 2048) -> Tensor:
    """``function`` of the samples of x; on a CPU of only so many that they have ``positions``.

    The backward pass does the same few in a row, so that there is never room for the gradients of
    all samples in the features between x and a small result. They must not mix in ``function``.
    """
    if x.is_cuda or _traced():
        return function(x)
    count = max(1, positions // (x.shape[2] * x.shape[3]))
    if len(x) <= count:
        return function(x)
    parts = x.split(count)
    if hasattr(x, "rectified_from"):
        y, *others = x.rectified_from
        for part, y_part in zip(parts, y.split(count)):
            part.rectified_from = y_part, *others
    return torch.cat([function(part) for part in parts])


class ConvBlock(nn.Module):
    """Convolution, norm, activation: the block that section 4.1 builds everything from.

    Args:
        conv: A :class:`Conv2d` or :class:`SeparableConv`.
        channels: Channels that it gives.
        norm_cfg: mmcv's config of the norm; None for no norm.
        act: The activation.
        fast: Whether to run norm and activation as one function, where they are instance norm
            without affine and running statistics, and ReLU or leaky ReLU.
    """

    def __init__(
        self,
        conv: nn.Module,
        channels: int,
        norm_cfg: dict | None,
        act: nn.Module,
        fast: bool = True,
    ):
        super().__init__()
        self.conv = conv
        try:
            self.norm = (
                nn.Identity() if norm_cfg is None else build_norm_layer(norm_cfg, channels)[1]
            )
        except KeyError as error:  # mmcv's own message does not name it
            raise KeyError(f"norm_cfg={norm_cfg}: mmcv knows no such norm; try 'IN'.") from error
        self.act = act
        last = conv[-1] if isinstance(conv, SeparableConv) else conv
        last.inert_bias = isinstance(self.norm, nn.InstanceNorm2d)
        self.fast = fast

    @property
    def per_sample(self) -> bool:
        """Whether it is known that the norm keeps the samples of a batch apart."""
        known = isinstance(self.norm, (nn.InstanceNorm2d, nn.GroupNorm, nn.Identity))
        return known and not getattr(self.norm, "track_running_stats", False)

    def _is_fast(self) -> bool:
        """``fast``, unless a module inside has to be called as such."""
        return self.fast and not _hooked(self.conv, *self.conv.children(), self.norm, self.act)

    def finish(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """Norm, activation and sum, of what the convolution gave."""
        norm, act = self.norm, self.act
        known = isinstance(norm, nn.InstanceNorm2d) and isinstance(act, (nn.ReLU, nn.LeakyReLU))
        known = known and not (norm.affine or norm.track_running_stats)
        if known and self._is_fast() and not _traced():  # a compiler fuses by itself
            slope = getattr(act, "negative_slope", 0.0)
            x, y = _NormReLU.apply(x, residual, norm.eps, slope)
            if residual is None and x.requires_grad:
                x.rectified_from = y, slope, x._version
            return x
        x = act(norm(x))
        return x if residual is None else residual + x

    def forward(self, x: Tensor) -> Tensor:
        with _recomputed(x):
            y = self.conv(x)
        return self.finish(y)


class ResidualBlock(ConvBlock):
    """``x + block(x)``.

    Fast, for a 3×3 convolution with zero padding that is computed :func:`_by_hand`, from so many
    tiles on that it pays: Winograd's products. Other devices' libraries and compilers choose for
    themselves.
    """

    #: With fewer tiles of 4×4, transforming the kernel costs more than the products save.
    MIN_TILES = 128

    def _convolve(self, x: Tensor) -> Tensor:
        conv, (n, _, h, w) = self.conv, x.shape
        known = conv.kernel_size == (3, 3) and conv.padding_mode == "zeros" and conv.inert_bias
        known = known and conv.padding == conv.stride == conv.dilation == (1, 1)
        known = known and conv.groups == 1
        pays = _by_hand(x) and n * h * w >= 16 * self.MIN_TILES
        if known and pays and self._is_fast():
            return conv.finish(_WinogradConv.apply(x, conv.weight))
        return conv(x)

    def forward(self, x: Tensor) -> Tensor:
        with _recomputed(x):
            y = self._convolve(x)
        return self.finish(y, residual=x)


class UpsampleBlock(ConvBlock):
    """Interpolation to twice the size, then the block.

    Fast, for nearest interpolation, zero padding and k = 3: the vertical convolution of the
    repeated rows, then the horizontal one of the repeated columns, both from products before the
    repetition: 9 per low-resolution pixel and pair of channels instead of 24.

    Args:
        conv: A :class:`SeparableConv`.
        mode: ``"nearest"`` or ``"bilinear"``.
        *args, **kwargs: As for :class:`ConvBlock`.
    """

    def __init__(self, conv: SeparableConv, *args, mode: str, **kwargs):
        super().__init__(conv, *args, **kwargs)
        self.mode = mode

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = self.conv
        known = rows.kernel_size == (3, 1) and rows.padding_mode == "zeros"
        known = known and rows.padding == (1, 0) and rows.stride == (1, 1)
        if not (known and self.mode == "nearest" and self._is_fast()):
            return super().forward(upsample(x, self.mode))
        with _recomputed(x):
            y = _upsampled_conv(x, rows, 2)
        return self.finish(_upsampled_conv(y, columns, 3))


class MappingConv(Conv2d):  # "Conv" in its name, by which mmagic finds what to initialise
    """The one convolution that maps every feature map of the pyramid to domain B (section 3.2).

    Fast, for nearest interpolation and zero padding: a transposed convolution with stride s of the
    low-resolution features is the convolution of their s-fold repetition if its kernel is the
    flipped one, summed over s shifts. In one dimension, with u[n] = x[n // s] and r = k // 2, the
    value x[m] is u[sm], ..., u[sm + s - 1], so it reaches y[sm + j - r] through

        T[j] = w[2r - j] + w[2r - j + 1] + ... + w[2r - j + s - 1],    j = 0, ..., k + s - 2

    Since the output has few channels, all (k + s - 1)² of them are one 1×1 convolution, and
    ``F.fold`` adds the results up where they belong. The wide features are never upsampled.
    """

    def __init__(self, *args, mode: str, fast: bool, **kwargs):
        super().__init__(*args, **kwargs)
        self.mode = mode
        self.fast = fast and mode == "nearest" and self.padding_mode == "zeros"

    def spread_kernel(self, scale: int) -> Tensor:
        """T of the class, C_out×(k + s - 1)×(k + s - 1)×C_in; gradients reach the weight."""
        kernel = self.weight.flip(2, 3).permute(0, 2, 3, 1)
        pads = [(shift, scale - 1 - shift) for shift in range(scale)]
        kernel = sum(F.pad(kernel, (0, 0, 0, 0, *pad)) for pad in pads)
        return sum(F.pad(kernel, (0, 0, *pad)) for pad in pads)

    def forward(self, x: Tensor, times: int) -> Tensor:
        """Features of 1/2^times the output's size to one image, before the tanh (Eq. 2)."""
        if not self.fast:
            return super().forward(upsample(x, self.mode, times))
        scale = 2**times
        kernel = self.spread_kernel(scale)
        with _recomputed(x):
            taps = conv1x1(x, kernel.flatten(0, 2)).flatten(2)
        size = (x.shape[-2] * scale, x.shape[-1] * scale)
        image = F.fold(taps, size, kernel.shape[1:3], padding=self.padding, stride=scale)
        return image + self.bias[:, None, None]
