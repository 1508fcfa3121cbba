import copy
import itertools

import numpy as np
import numpy_networks
import pytest
import torch
from mmagic.registry import MODELS
from torch import nn

from spynco_mm.models import SpyncoDiscriminator

SMALL = dict(channels=(4, 6, 8, 10))


def images(*shape, dtype=torch.float64):
    return torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=dtype) * 2 - 1


def test_published_number_of_parameters():
    network = MODELS.build(dict(type="SpyncoDiscriminator"))
    assert sum(p.numel() for p in network.parameters()) == 2_084_801
    assert all(p.requires_grad for p in network.parameters())


def test_number_of_parameters_layer_by_layer():
    network = SpyncoDiscriminator()
    counts = [sum(p.numel() for p in block.parameters()) for block in network.blocks]
    widths = [3, 64, 128, 256, 512]
    expected = [4 * a * b + 4 * b * b + b for a, b in itertools.pairwise(widths)]
    expected[1:] = [n + 2 * b for n, b in zip(expected[1:], widths[2:])]  # affine norm
    assert counts == expected
    assert sum(p.numel() for p in network.head.parameters()) == 512 + 1
    assert sum(counts) + 513 == 2_084_801


@pytest.mark.parametrize("size", [(32, 32), (16, 24), (33, 47)])
@pytest.mark.parametrize("kwargs", [{}, dict(negative_slope=0.1), dict(strides=(2, 1, 2, 1)),
                                    dict(kernel_size=3)])  # fmt: skip
def test_scores_against_numpy(size, kwargs):
    torch.manual_seed(0)
    network = SpyncoDiscriminator(**SMALL, **kwargs).double()
    for parameter in network.parameters():  # norms and biases too
        nn.init.normal_(parameter, 0.1, 0.5)
    x = images(2, 3, *size)
    scores = network(x)
    expected = numpy_networks.discriminator(
        network, x.numpy(), network.strides, network.kernel_size, kwargs.get("negative_slope", 0.2)
    )
    np.testing.assert_allclose(scores.detach(), expected, atol=1e-10)
    assert scores.shape[1:] == (1, *map(network.score_size, size))


@pytest.mark.parametrize("size", [(32, 32), (17, 26)])
def test_fast_equals_naive(size):
    torch.manual_seed(0)
    fast, naive = (SpyncoDiscriminator(channels=(16, 8), strides=(2, 1), fast=f) for f in (1, 0))
    naive.load_state_dict(fast.state_dict())
    assert fast.blocks[0].conv.fast and not naive.blocks[0].conv.fast
    compiled = copy.deepcopy(fast)
    compiled.compile(backend="aot_eager", fullgraph=True)
    found = []
    for network in (fast.double(), naive.double(), compiled.double()):
        x = images(2, 3, *size).requires_grad_()
        y = network(x)
        found.append([y, *torch.autograd.grad(y.square().mean(), [x, *network.parameters()])])
    for a, b, c in zip(*found):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=0)
        torch.testing.assert_close(c, b, atol=1e-10, rtol=0)


def test_paper_sizes():
    network = SpyncoDiscriminator()
    assert (network.score_size(32), network.score_size(256)) == (3, 31)


def test_one_by_one_is_the_same_as_a_batch():
    network = SpyncoDiscriminator(**SMALL).double()
    x = images(3, 3, 32, 32)
    together = torch.cat([network(image[None]) for image in x])
    torch.testing.assert_close(network(x), together, atol=1e-12, rtol=0)


def test_norm_of_choice_and_channels():
    network = SpyncoDiscriminator(in_channels=8, channels=(4, 8), strides=(2, 1), norm_cfg=None)
    assert not any(isinstance(m, nn.InstanceNorm2d) for m in network.modules())
    assert network(images(1, 8, 16, 16, dtype=torch.float32)).shape == (1, 1, 7, 7)
    network = SpyncoDiscriminator(norm_cfg=dict(type="BN"))
    kinds = [type(block.norm) for block in network.blocks]
    assert kinds == [nn.Identity, nn.BatchNorm2d, nn.BatchNorm2d, nn.BatchNorm2d]


def test_bias_before_affine_instance_norm_rests():
    network = SpyncoDiscriminator(**SMALL)
    network(images(2, 3, 32, 32, dtype=torch.float32)).square().sum().backward()
    moved = [bool(block.conv[1].bias.grad.any()) for block in network.blocks]
    assert moved == [True, False, False, False]


@pytest.mark.parametrize("shape", [(2, 1, 32, 32), (3, 32, 32)])
def test_wrong_channels(shape):
    with pytest.raises(ValueError, match="takes N×3×H×W images, got " + "×".join(map(str, shape))):
        SpyncoDiscriminator(**SMALL)(torch.zeros(shape))


def test_smallest_image():
    network = SpyncoDiscriminator(**SMALL)
    with pytest.raises(ValueError, match="at least 24×24 pixels, got 16×16; enlarge"):
        network(torch.zeros(1, 3, 16, 16))
    assert network(torch.zeros(1, 3, 24, 24)).shape == (1, 1, 2, 2)


def test_one_stride_for_each_entry():
    with pytest.raises(ValueError, match="one stride for each entry of channels"):
        SpyncoDiscriminator(channels=(4, 8), strides=(2, 2, 1))


def test_numbers_that_no_network_has():
    with pytest.raises(ValueError, match=r"channels must be whole and at least 1, got \(4, 0\)"):
        SpyncoDiscriminator(channels=(4, 0), strides=(2, 2))
    with pytest.raises(ValueError, match="kernel_size must be whole and at least 1"):
        SpyncoDiscriminator(kernel_size=1.5)
