"""The layers: what they compute, which operation they hand it to, and what hooks see of it."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.runner.activation_checkpointing import turn_on_activation_checkpointing
from numpy_networks import separable_conv, upsample
from torch import nn
from torch.nn.utils import prune

from spynco_mm.models import SpyncoDiscriminator, SpyncoGenerator
from spynco_mm.models.layers import (
    Conv2d,
    ConvBlock,
    MappingConv,
    ResidualBlock,
    SeparableConv,
    UpsampleBlock,
)
from spynco_mm.models.ops import winograd
from spynco_mm.models.ops.upsample import upsample as torch_upsample


def features(channels=3, size=(5, 6), n=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, channels, *size, generator=generator, dtype=torch.float64)


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


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
@pytest.mark.parametrize("padding_mode", ["zeros", "reflect"])
@pytest.mark.parametrize("times", [0, 2])
def test_fast_mapping_equals_the_naive_one(mode, padding_mode, times):
    def mapping(fast):
        arguments = dict(padding=2, padding_mode=padding_mode, mode=mode, fast=fast)
        layer = MappingConv(3, 2, 5, **arguments).double()
        return lambda_module(layer, times)

    compare(mapping(True), mapping(False), 3)


def lambda_module(layer, times):
    class Times(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = layer

        def forward(self, x):
            return self.layer(x, times)

    return Times()


@pytest.mark.parametrize("norm_cfg", [dict(type="IN"), dict(type="BN"), None])
def test_fast_upsampling_equals_the_naive_one(norm_cfg):
    def block(fast):
        conv = SeparableConv(3, 4, 3)
        return UpsampleBlock(conv, 4, norm_cfg, nn.ReLU(), mode="nearest", fast=fast).double()

    compare(block(True), block(False), 3)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_fast_residual_block_equals_the_naive_one(monkeypatch, memory_format):
    monkeypatch.setattr(winograd, "MIN_TILES", 0)

    def residual(fast):
        conv = Conv2d(3, 3, 3, padding=1)
        return ResidualBlock(conv, 3, dict(type="IN"), nn.ReLU(), fast=fast).double()

    compare(residual(True), residual(False), 3, memory_format=memory_format)


@pytest.mark.parametrize(
    "arguments", [dict(padding=2, dilation=2), dict(padding=1, groups=2), dict(padding="same")]
)
def test_other_residual_convolutions(monkeypatch, arguments):
    monkeypatch.setattr(winograd, "MIN_TILES", 0)

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


def test_fast_norm_with_leaky_relu_equals_the_naive_one():
    def convolve(fast):
        act = nn.LeakyReLU(0.2, inplace=True)
        blocks = [ConvBlock(Conv2d(3, 3, 3), 3, dict(type="IN"), act, fast=fast) for _ in range(2)]
        return nn.Sequential(*blocks).double()

    compare(convolve(True), convolve(False), 3, (7, 9))


@pytest.mark.parametrize("channels, kwargs", [(1, {}), (1, dict(padding_mode="reflect")), (8, {})])
def test_fast_separable_convolution_equals_the_naive_one(channels, kwargs):
    def separable(fast):
        return SeparableConv(channels, 8, 3, 2, first_bias=False, fast=fast, **kwargs).double()

    compare(separable(True), separable(False), channels)


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
    monkeypatch.setattr(winograd, "MIN_TILES", 0)
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
    monkeypatch.setattr(winograd, "MIN_TILES", 0)
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


@pytest.mark.parametrize("fast", [True, False])
def test_hooks_on_blocks(fast):
    """Every block is called, also the last one, whose ReLU the mapping applies else."""
    network = SpyncoGenerator(base_channels=2, num_blocks=1, fast=fast).double()
    blocks, seen = [m for m in network.modules() if isinstance(m, ConvBlock)], []
    for block in blocks:
        block.register_forward_hook(lambda module, args, out: seen.append(module))
    plain = copy.deepcopy(network)
    for block in plain.modules():
        block._forward_hooks.clear()
    x = features(size=(24, 28))
    for a, b in zip(network(x), plain(x)):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=0)
    assert seen == blocks


def test_activation_checkpointing():
    """Of every block and of the mapping, as by a Runner: the last block is run again as well."""
    torch.manual_seed(0)
    network = SpyncoGenerator(base_channels=2, num_blocks=1).double()
    plain, runs = copy.deepcopy(network), []
    last, forward = network.decoder[-1], network.decoder[-1].forward
    last.forward = lambda x: runs.append(len(x)) or forward(x)
    names = [name for name, m in network.named_modules() if isinstance(m, ConvBlock)]
    turn_on_activation_checkpointing(network, [*names, "mapping"])
    found = []
    for net in (network, plain):
        outputs = net(features(size=(24, 28)).requires_grad_())
        sum(output.square().sum() for output in outputs).backward()
        found.append([parameter.grad for parameter in net.parameters()])
    assert sum(runs) == 2 * len(features())
    for a, b in zip(*found):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=1e-8)


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
