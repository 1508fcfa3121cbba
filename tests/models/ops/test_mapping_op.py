import pytest
from both_forms import assert_same, normal

from spynco_mm.models.ops.mapping import mapping


@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
@pytest.mark.parametrize("times", [0, 1, 2, 3])
@pytest.mark.parametrize("size", [(4, 4), (5, 7)])
def test_both_forms(kernel, times, size):
    def op(x, weight, bias, fast):
        return mapping(x, weight, bias, times, fast)

    y = assert_same(op, normal(2, 3, *size), normal(2, 3, kernel, kernel, seed=2), normal(2))
    assert y.shape == (2, 2, *(side * 2**times for side in size))


def test_without_bias():
    def op(x, weight, fast):
        return mapping(x, weight, None, 1, fast)

    assert_same(op, normal(2, 3, 4, 5), normal(2, 3, 3, 3, seed=2))
