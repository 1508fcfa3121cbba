import pytest
import torch
from both_forms import DEVICES, assert_same, choose_forms, normal
from torch.autograd.graph import saved_tensors_hooks

from spynco_mm.models.ops import mapping as mapping_op
from spynco_mm.models.ops.mapping import mapping


@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
@pytest.mark.parametrize("times", [0, 1, 2, 3])
@pytest.mark.parametrize("size", [(4, 4), (5, 7)])
@pytest.mark.parametrize("how", [*DEVICES, "compiled"])
def test_both_forms(monkeypatch, kernel, times, size, how):
    choose_forms(monkeypatch, how)
    monkeypatch.setattr(mapping_op, "compiled", lambda: how == "compiled")

    def op(x, weight, bias, fast):
        return mapping(x, weight, bias, times, fast=fast)

    y = assert_same(op, normal(2, 3, *size), normal(2, 3, kernel, kernel, seed=2), normal(2))
    assert y.shape == (2, 2, *(side * 2**times for side in size))


def test_without_bias():
    def op(x, weight, fast):
        return mapping(x, weight, None, 1, fast=fast)

    assert_same(op, normal(2, 3, 4, 5), normal(2, 3, 3, 3, seed=2))


@pytest.mark.parametrize("slope", [0.0, 0.2])
@pytest.mark.parametrize("how", [*DEVICES, "compiled"])
def test_of_rectified_features(monkeypatch, slope, how):
    """Their values before the ReLU are all that is kept."""
    choose_forms(monkeypatch, how)
    monkeypatch.setattr(mapping_op, "compiled", lambda: how == "compiled")
    x, kept = normal(2, 3, 4, 5), []

    def op(x, weight, bias, fast):
        def keep(tensor):
            if fast and tensor.shape == x.shape:
                kept.append(tensor)
            return tensor

        with saved_tensors_hooks(keep, lambda tensor: tensor):
            return mapping(x, weight, bias, 1, slope, fast)

    assert_same(op, x, normal(2, 3, 3, 3, seed=2), normal(2))
    assert kept and all(torch.equal(tensor, x) for tensor in kept) == (how != "compiled")


def test_of_rectified_features_under_autocast():
    found = []
    for fast in (True, False):
        x, weight = (t.float().requires_grad_() for t in (normal(2, 3, 4, 5), normal(2, 3, 3, 3)))
        with torch.autocast("cpu", torch.bfloat16):
            y = mapping(x, weight, None, 1, 0.2, fast)
        found.append(torch.autograd.grad(y.float().square().mean(), [x, weight]))
        assert [g.dtype for g in found[-1]] == [torch.float32] * 2
    for a, b in zip(*found):
        torch.testing.assert_close(a, b, atol=0.02 * b.abs().max().item(), rtol=0)
