"""How a network starts, and the two ways of upsampling: interpolate and convolve, or neither."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy_networks import separable_conv, upsample
from simulated_gpu import simulated_gpu
from torch import nn
from torch.nn.utils import prune

from spynco_mm.models import SpyncoDiscriminator, SpyncoGenerator, layers
from spynco_mm.models.layers import (
    Conv2d,
    ConvBlock,
    MappingConv,
    ResidualBlock,
    SeparableConv,
    UpsampleBlock,
)
from spynco_mm.models.layers import upsample as torch_upsample


def features(channels=3, size=(5, 6), n=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, channels, *size, generator=generator, dtype=torch.float64)


# ------------------------------------------------------------------ initialisation


def convolutions(network):
    return [m for m in network.modules() if isinstance(m, nn.Conv2d)]


@pytest.mark.parametrize("cls", [SpyncoGenerator, SpyncoDiscriminator])
@pytest.mark.parametrize("init_cfg, std", [(None, 0.02), (dict(type="normal", gain=0.1), 0.1)])
def test_every_convolution_starts_normal(cls, init_cfg, std):
    torch.manual_seed(0)
    network = cls(init_cfg=init_cfg)
    network.init_weights()
    for conv in convolutions(network):
        # Five standard errors of the sample deviation.
        assert abs(conv.weight.std() / std - 1) < 5 / (2 * conv.weight.numel()) ** 0.5
        assert conv.bias is None or not conv.bias.any()


@pytest.mark.parametrize("kind", ["xavier", "kaiming"])
def test_other_initialisations(kind):
    torch.manual_seed(0)
    network = SpyncoDiscriminator(init_cfg=dict(type=kind, gain=1.0))
    network.init_weights()
    conv = network.blocks[2].conv[0]  # 128 → 256 channels, 4 taps
    fan_in, fan_out = 128 * 4, 256 * 4
    std = {"xavier": (2 / (fan_in + fan_out)) ** 0.5, "kaiming": (2 / fan_in) ** 0.5}[kind]
    assert abs(conv.weight.std() / std - 1) < 0.02


def test_pretrained(tmp_path):
    small = dict(base_channels=2, num_blocks=1)
    source = SpyncoGenerator(**small)
    torch.save(source.state_dict(), tmp_path / "g.pth")
    init_cfg = dict(type="Pretrained", checkpoint=str(tmp_path / "g.pth"))
    network = SpyncoGenerator(**small, init_cfg=init_cfg)
    network.init_weights()
    for name, value in source.state_dict().items():
        assert torch.equal(network.state_dict()[name], value)


@pytest.mark.parametrize("cls", [SpyncoGenerator, SpyncoDiscriminator])
def test_unknown_initialisation(cls):
    with pytest.raises(ValueError, match=f"{cls.__name__}: the type of init_cfg is .*'magic'"):
        cls(init_cfg=dict(type="magic"))
    with pytest.raises(ValueError, match=r"init_cfg has a type and a gain, not \['std'\]"):
        cls(init_cfg=dict(type="normal", std=0.5))


# ------------------------------------------------------------------ convolutions


@pytest.mark.parametrize("first_bias", [True, False])
@pytest.mark.parametrize("kernel, stride, padding", [(5, 2, None), (3, 1, None), (4, 2, 1)])
def test_separable_convolution(kernel, stride, padding, first_bias):
    layer = SeparableConv(3, 4, kernel, stride, padding, first_bias).double()
    shapes = {name: tuple(p.shape) for name, p in layer.named_parameters()}
    expected = {"0.weight": (4, 3, kernel, 1), "0.bias": (4,), "1.weight": (4, 4, 1, kernel),
                "1.bias": (4,)}  # fmt: skip
    if not first_bias:
        del expected["0.bias"]
    assert shapes == expected
    x = features(size=(9, 12))
    numbers = [[None if p is None else p.detach().numpy() for p in (c.weight, c.bias)]
               for c in layer]  # fmt: skip
    pad = kernel // 2 if padding is None else padding
    y = separable_conv(x.numpy(), numbers, stride, pad)
    np.testing.assert_allclose(layer(x).detach(), y, atol=1e-12)


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
@pytest.mark.parametrize("times", [0, 1, 2])
def test_upsampling_is_applied_so_many_times(mode, times):
    x = features()
    expected = x.numpy()
    for _ in range(times):
        expected = upsample(expected, mode)
    np.testing.assert_allclose(torch_upsample(x, mode, times), expected, atol=1e-12)


def compare(fast, naive, *args, memory_format=torch.contiguous_format):
    """Outputs, and gradients of the input and of every parameter."""
    naive.load_state_dict(fast.state_dict())
    found = []
    for layer in (fast, naive):
        x = features(*args).contiguous(memory_format=memory_format).requires_grad_()
        y = layer(x)
        weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).to(y)
        found.append([y, *torch.autograd.grad((y * weights).sum(), [x, *layer.parameters()])])
    for a, b in zip(*found):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=0)


@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
@pytest.mark.parametrize("times", [0, 1, 2, 3])
@pytest.mark.parametrize("size", [(4, 4), (5, 7)])
def test_fast_mapping_equals_the_naive_one(kernel, times, size):
    def mapping(fast):
        layer = MappingConv(3, 2, kernel, padding=kernel // 2, mode="nearest", fast=fast).double()
        return lambda_module(layer, times)

    compare(mapping(True), mapping(False), 3, size)


def lambda_module(layer, times):
    class Times(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = layer

        def forward(self, x):
            return self.layer(x, times)

    return Times()


@pytest.mark.parametrize("norm_cfg", [dict(type="IN"), dict(type="BN"), None])
@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("size", [(4, 4), (5, 7)])
def test_fast_upsampling_equals_the_naive_one(norm_cfg, kernel, size):
    def block(fast):
        conv = SeparableConv(3, 4, kernel)
        return UpsampleBlock(conv, 4, norm_cfg, nn.ReLU(), mode="nearest", fast=fast).double()

    compare(block(True), block(False), 3, size)


@pytest.mark.parametrize("convolve", [False, True])
def test_fast_upsampling_with_either_library(monkeypatch, convolve):
    monkeypatch.setattr(layers, "_convolve_rows", lambda rows: convolve)
    test_fast_upsampling_equals_the_naive_one(dict(type="IN"), 3, (5, 7))
    test_fast_upsampling_equals_the_naive_one(None, 3, (4, 4))


def test_fast_upsampling_in_plain_operations(monkeypatch):
    monkeypatch.setattr(layers, "_by_hand", lambda x: False)
    test_fast_upsampling_equals_the_naive_one(dict(type="IN"), 3, (5, 7))
    test_fast_upsampling_equals_the_naive_one(None, 3, (4, 4))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_fast_norm_on_a_gpu(dtype, memory_format):
    """All samples at once, with statistics in single precision; simulated, hence by hand."""
    counts = []
    for n in (1, 64):
        with simulated_gpu() as launches:
            x, residual, grad = torch.empty(3, n, 64, 32, 32, dtype=dtype, device="cuda")
            x, residual, grad = (t.to(memory_format=memory_format) for t in (x, residual, grad))
            ctx = torch.autograd.function.FunctionCtx()
            ctx.set_materialize_grads = lambda value: None
            y, _ = layers._NormReLU.forward(ctx, x, residual, 1e-5, 0.2)
            ctx.saved_tensors = ctx.to_save
            with torch.no_grad():
                grad_x, grad_residual, *_ = layers._NormReLU.backward(ctx, grad, None)
        for tensor in (y, grad_x, grad_residual):
            assert tensor.is_cuda and tensor.dtype == dtype and tensor.shape == x.shape
        assert ctx.to_save[1].dtype == torch.float32
        counts.append(launches.names)
    if memory_format == torch.contiguous_format:
        assert counts[0] == counts[1]
    assert len(counts[1]) < 32


def test_fast_upsampling_in_several_blocks(monkeypatch):
    monkeypatch.setattr(layers._UpsampledConv, "BLOCK", 12)
    test_fast_upsampling_equals_the_naive_one(dict(type="IN"), 3, (5, 7))


@pytest.mark.parametrize("size", [(6, 8), (5, 7), (1, 2)])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
# Values that go at a time: of one sample, and of all of them.
@pytest.mark.parametrize("block", [1, 10**6])
def test_fast_residual_block_equals_the_naive_one(monkeypatch, size, memory_format, block):
    monkeypatch.setattr(ResidualBlock, "MIN_TILES", 0)
    monkeypatch.setattr(layers._NormReLU, "BLOCK", block)

    def residual(fast):
        conv = Conv2d(3, 3, 3, padding=1)
        return ResidualBlock(conv, 3, dict(type="IN"), nn.ReLU(), fast=fast).double()

    compare(residual(True), residual(False), 3, size, memory_format=memory_format)


@pytest.mark.parametrize(
    "arguments", [dict(padding=2, dilation=2), dict(padding=1, groups=2), dict(padding="same")]
)
def test_other_residual_convolutions(monkeypatch, arguments):
    monkeypatch.setattr(ResidualBlock, "MIN_TILES", 0)

    def residual(fast):
        conv = Conv2d(4, 4, 3, **arguments)
        return ResidualBlock(conv, 4, dict(type="IN"), nn.ReLU(), fast=fast).double()

    compare(residual(True), residual(False), 4)


@pytest.mark.parametrize("arguments", [dict(padding=0), dict(stride=2)])
def test_other_upsampled_convolutions(arguments):
    def block(fast):
        conv = SeparableConv(3, 4, 3, **arguments)
        return UpsampleBlock(
            conv, 4, dict(type="IN"), nn.ReLU(), mode="nearest", fast=fast
        ).double()

    compare(block(True), block(False), 3)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("block", [1, 10**6])
def test_fast_norm_with_leaky_relu_equals_the_naive_one(monkeypatch, memory_format, block):
    monkeypatch.setattr(layers._NormReLU, "BLOCK", block)

    def convolve(fast):
        act = nn.LeakyReLU(0.2, inplace=True)
        blocks = [ConvBlock(Conv2d(3, 3, 3), 3, dict(type="IN"), act, fast=fast) for _ in range(2)]
        return nn.Sequential(*blocks).double()

    compare(convolve(True), convolve(False), 3, (7, 9), memory_format=memory_format)


def test_winograd_rounds_about_as_the_plain_convolution_does():
    generator = torch.Generator().manual_seed(0)

    def normal(*size):
        return torch.randn(*size, generator=generator)

    x, weight, grad = (
        F.relu(normal(2, 64, 16, 16)),
        normal(64, 64, 3, 3) / 24,
        normal(2, 64, 16, 16),
    )

    def results(convolve, dtype):
        leaves = [t.to(dtype).requires_grad_() for t in (x, weight)]
        y = convolve(*leaves)
        return y, *torch.autograd.grad(y, leaves, grad.to(dtype))

    def plain(x, weight):
        return F.conv2d(x, weight, padding=1)

    exact = results(plain, torch.float64)
    winograd = results(layers._WinogradConv.apply, torch.float32)
    for a, b, c in zip(winograd, results(plain, torch.float32), exact):
        assert 0 < (a - c).norm() < 5 * (b - c).norm() < 1e-5 * c.norm()


def test_from_so_many_tiles_on(monkeypatch):
    used = []
    apply = layers._WinogradConv.apply
    monkeypatch.setattr(layers._WinogradConv, "apply", lambda *a: used.append(1) or apply(*a))
    block = ResidualBlock(Conv2d(3, 3, 3, padding=1), 3, dict(type="IN"), nn.ReLU())
    block(torch.rand(2, 3, 32, 31)), block(torch.rand(1, 3, 45, 45))
    assert not used
    block(torch.rand(2, 3, 32, 32))
    assert used
    with torch.autocast("cpu", torch.bfloat16):
        block(torch.rand(2, 3, 32, 32))
    assert len(used) == 1


def test_two_convolutions_as_one():
    def separable(fast):
        return SeparableConv(1, 8, 4, 2, 1, first_bias=False, fast=fast).double()

    assert separable(True).fast
    compare(separable(True), separable(False), 1, (8, 9))
    # With a bias in between, or where it would cost more, they stay two.
    assert not SeparableConv(1, 8, 4, 2, 1).fast
    assert not SeparableConv(8, 8, 4, 2, 1, first_bias=False).fast
    assert not SeparableConv(1, 8, 3, 1, first_bias=False, padding_mode="reflect").fast


# ------------------------------------------------------------------ memory


def test_rectified_features_are_recomputed_and_not_kept():
    """Of what a block gives, the next one keeps no copy; of what others give, it does."""
    torch.manual_seed(0)
    first, second = (
        ConvBlock(conv, 3, dict(type="IN"), nn.LeakyReLU(0.1)).double()
        for conv in (Conv2d(3, 3, 3, padding=1), SeparableConv(3, 3, 3))
    )

    def kept_of(x, result):
        """What the first convolution after x, the last one before the result, has for its input."""
        nodes = [result.grad_fn]
        found = []
        while nodes:
            node = nodes.pop(0)
            if "Convolution" in node.name() and node._saved_weight.shape[2:] == (3, 1):
                found.append(node._saved_input)
            nodes += [n for n, _ in node.next_functions if n is not None]
        (kept,) = found
        torch.testing.assert_close(kept, x, atol=0, rtol=0)
        return kept

    x = first(features())
    assert kept_of(x, second(x)).data_ptr() != x.data_ptr()
    x = x.detach()
    assert kept_of(x, second(x)).data_ptr() == x.data_ptr()
    with torch.no_grad():
        assert not hasattr(first(features()), "rectified_from")


def test_features_that_are_changed_in_place():
    """The next convolution sees what they are now."""
    mask = torch.rand(2, 3, 5, 6, dtype=torch.float64) > 0.5

    def gradients(drop):
        torch.manual_seed(0)
        blocks = [
            ConvBlock(Conv2d(3, 3, 3, padding=1), 3, dict(type="IN"), nn.ReLU()).double()
            for _ in range(2)
        ]
        y = blocks[1](drop(blocks[0](features())))
        return torch.autograd.grad(y.square().sum() + y[0, 0, 0, 0], blocks[1].conv.weight)

    found, expected = gradients(lambda x: x.mul_(mask)), gradients(lambda x: x * mask)
    torch.testing.assert_close(found, expected, atol=1e-10, rtol=0)


@pytest.mark.parametrize("n, seen", [(1, [1]), (2, [2]), (5, [2, 2, 1])])
def test_few_at_a_time(n, seen):
    torch.manual_seed(0)
    x = features(size=(4, 5), n=n)
    before = ConvBlock(Conv2d(3, 3, 3, padding=1), 3, dict(type="IN"), nn.ReLU()).double()
    after = ConvBlock(Conv2d(3, 2, 3, padding=1), 2, dict(type="IN"), nn.ReLU()).double()
    sizes = []

    def function(x):
        sizes.append(len(x))
        return after(x).square()

    def run(call):
        y = call(before(x))
        weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)
        parameters = [*before.parameters(), *after.parameters()]
        return [y, *torch.autograd.grad((y * weights).sum(), parameters)]

    whole = run(function)
    sizes.clear()
    for a, b in zip(run(lambda x: layers.few_at_a_time(function, x, positions=55)), whole):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=0)
    assert sizes == seen


# ------------------------------------------------------------------ what else goes on in a network


def test_no_second_derivatives():
    """They would be silently wrong."""
    for block in (
        ConvBlock(Conv2d(3, 3, 3, padding=1), 3, dict(type="IN"), nn.ReLU()),
        UpsampleBlock(SeparableConv(3, 3, 3), 3, None, nn.ReLU(), mode="nearest"),
    ):
        loss = block(torch.randn(2, 3, 5, 6)).square().sum()
        with pytest.raises(RuntimeError, match=r"no second derivatives .* with fast=False"):
            loss.backward(create_graph=True)


def reparametrised(how, cls, **kwargs):
    torch.manual_seed(0)
    network = cls(**kwargs).double()
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, 0, 0.1)
            if how == "spectral norm":
                nn.utils.spectral_norm(module)
            else:
                prune.l1_unstructured(module, "weight", 0.5)
    return network


@pytest.mark.parametrize("how", ["spectral norm", "pruning"])
@pytest.mark.parametrize(
    "cls, kwargs",
    [
        (SpyncoGenerator, dict(base_channels=2, num_blocks=1, return_pyramid=False)),
        (SpyncoDiscriminator, dict(channels=(8, 8), strides=(2, 2))),
    ],
)
def test_hooks_that_compute_the_weights(monkeypatch, cls, kwargs, how):
    monkeypatch.setattr(ResidualBlock, "MIN_TILES", 0)
    found = []
    for fast in (True, False):
        network = reparametrised(how, cls, **kwargs, fast=fast)
        for _ in range(2):  # Pruned weights are computed anew for each pass.
            network.zero_grad()
            network(features(size=(24, 28))).square().sum().backward()
        found.append([parameter.grad for parameter in network.parameters()])
    for a, b in zip(*found):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=1e-8)


def test_hooks_that_look_at_features(monkeypatch):
    """They are called, and what they keep stays as it was."""
    monkeypatch.setattr(ResidualBlock, "MIN_TILES", 0)
    x, seen = features(size=(24, 28)), []
    for fast in (True, False):
        torch.manual_seed(0)
        network = SpyncoGenerator(base_channels=2, num_blocks=1, fast=fast).double()
        seen.append([])
        inner = (m for m in network.modules() if isinstance(m, (nn.Conv2d, nn.InstanceNorm2d)))
        for module in inner:
            module.register_forward_hook(lambda m, args, out, kept=seen[-1]: kept.append(out))
        network(x)
    assert len(seen[0]) == len(seen[1])
    for a, b in zip(*seen):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=0)


# ------------------------------------------------------------------ biases before instance norm


def test_a_convolution_without_bias():
    def block(fast):
        conv = Conv2d(3, 4, 3, bias=False)
        return ConvBlock(conv, 4, dict(type="IN"), nn.ReLU(), fast=fast).double()

    compare(block(True), block(False), 3)


@pytest.mark.parametrize("cls", [ConvBlock, ResidualBlock])
def test_bias_before_instance_norm(cls):
    torch.manual_seed(0)
    block = cls(Conv2d(3, 3, 3, padding=1), 3, dict(type="IN"), nn.ReLU()).double()
    x = features()
    with torch.no_grad():
        block.conv.bias.uniform_(-2, 2)
    plain = F.conv2d(x, block.conv.weight, block.conv.bias, padding=1)
    expected = F.relu(F.instance_norm(plain)) + (x if cls is ResidualBlock else 0)
    torch.testing.assert_close(block(x), expected, atol=1e-10, rtol=0)
    (block(x) ** 2).sum().backward()
    assert block.conv.weight.grad.abs().max() > 1e-3
    assert block.conv.bias.grad is not None and not block.conv.bias.grad.any()


@pytest.mark.parametrize("norm_cfg", [None, dict(type="BN"), dict(type="GN", num_groups=3)])
def test_other_biases_count(norm_cfg):
    torch.manual_seed(0)
    conv = SeparableConv(3, 6, 3)
    block = ConvBlock(conv, 6, norm_cfg, nn.ReLU()).double().eval()
    block(features()).square().sum().backward()
    # The first one of a pair counts always, since the second sees zeros beyond the border.
    assert all(c.bias.grad.abs().max() > 1e-6 for c in conv)
