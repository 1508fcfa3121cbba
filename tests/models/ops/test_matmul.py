import pytest
import torch
from both_forms import assert_same, normal

from spynco_mm.models.ops import matmul
from spynco_mm.models.ops.conv1x1 import conv1x1


@pytest.fixture(params=["AVX2", "AVX512"], autouse=True)
def processor(monkeypatch, request):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: request.param)


@pytest.mark.parametrize("rows", [3, matmul.MIN_ROWS])
def test_both_forms(rows):
    x, weight, bias = normal(rows, 5), normal(4, 5, seed=2), normal(4, seed=3)
    y = assert_same(matmul.linear, x, weight, bias)
    torch.testing.assert_close(y, x @ weight.t() + bias, atol=1e-10, rtol=0)
    grad = normal(rows, 4, seed=4)
    found = [matmul.grad_of_weight(grad, x, fast) for fast in (True, False)]
    torch.testing.assert_close(*found, atol=1e-10, rtol=0)


@pytest.mark.parametrize("groups", [1, 2])
def test_both_forms_of_a_1x1_convolution(groups):
    def op(x, weight, bias, fast):
        return conv1x1(x, weight, bias, groups, fast)

    assert_same(op, normal(2, 4, 5, 6), normal(6, 4 // groups, seed=2), normal(6, seed=3))
