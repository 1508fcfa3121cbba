import pytest
import torch
from both_forms import assert_same, normal
from simulated_gpu import simulated_gpu

from spynco_mm.models.ops.layout import layout


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_both_forms(memory_format):
    x = normal(2, 3, 5, 7)
    torch.testing.assert_close(assert_same(layout, x, memory_format=memory_format), x)


def test_fast_lays_the_channels_last():
    x = normal(2, 3, 5, 7)
    y = layout(x)
    assert y.shape == x.shape and y.stride() == (105, 1, 21, 3)
    assert layout(y) is y  # nothing is copied twice
    assert layout(x, fast=False) is x


def test_a_recorded_network_is_not_laid_out():
    graph = torch.jit.trace(lambda x: layout(x) * 2, torch.rand(2, 3, 5, 7)).graph
    assert [n.kind() for n in graph.nodes() if n.kind() != "prim::Constant"] == ["aten::mul"]


def test_a_gpu_keeps_its_layout():
    with simulated_gpu() as launches:
        x = torch.empty(2, 3, 5, 7, device="cuda")
        assert layout(x) is x
    assert not launches.names
