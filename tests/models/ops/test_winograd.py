import pytest
import torch
import torch.nn.functional as F
from both_forms import assert_same, normal

from spynco_mm.models.ops import winograd
from spynco_mm.models.ops.winograd import conv3x3


@pytest.mark.parametrize("size", [(6, 8), (5, 7), (1, 2)])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_both_forms(monkeypatch, size, memory_format):
    monkeypatch.setattr(winograd, "MIN_TILES", 0)

    def op(x, weight, fast):
        return conv3x3(x, weight, fast=fast)

    tensors = normal(2, 3, *size), normal(4, 3, 3, 3, seed=2)
    y = assert_same(op, *tensors, memory_format=memory_format)
    torch.testing.assert_close(y, F.conv2d(*tensors, padding=1), atol=1e-10, rtol=0)


def test_it_rounds_about_as_the_plain_convolution_does():
    x, weight, grad = (
        F.relu(normal(2, 64, 32, 32)),
        normal(64, 64, 3, 3, seed=1) / 24,
        normal(2, 64, 32, 32, seed=2),
    )

    def results(fast, dtype):
        leaves = [t.to(dtype).requires_grad_() for t in (x, weight)]
        y = conv3x3(*leaves, fast=fast)
        return y, *torch.autograd.grad(y, leaves, grad.to(dtype))

    exact = results(False, torch.float64)
    for a, b, c in zip(results(True, torch.float32), results(False, torch.float32), exact):
        assert 0 < (a - c).norm() < 5 * (b - c).norm() < 1e-5 * c.norm()


def test_when_it_is_used(monkeypatch):
    used = []
    apply = winograd._Winograd.apply
    monkeypatch.setattr(winograd._Winograd, "apply", lambda *a: used.append(1) or apply(*a))
    weight, bias = torch.rand(3, 3, 3, 3), torch.rand(3)
    conv3x3(torch.rand(2, 3, 32, 31), weight), conv3x3(torch.rand(1, 3, 45, 45), weight)
    conv3x3(torch.rand(2, 3, 32, 32), weight, bias)
    conv3x3(torch.rand(2, 3, 32, 32), weight, fast=False)
    with torch.autocast("cpu", torch.bfloat16):
        conv3x3(torch.rand(2, 3, 32, 32), weight)
    assert not used
    conv3x3(torch.rand(2, 3, 32, 32), weight)
    assert used
