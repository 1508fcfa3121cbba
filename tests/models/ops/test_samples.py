import pytest
import torch
from both_forms import assert_same, normal

from spynco_mm.models.ops import samples


@pytest.mark.parametrize("n, seen", [(1, [1]), (2, [2]), (5, [2, 2, 1])])
def test_both_forms(monkeypatch, n, seen):
    monkeypatch.setattr(samples, "POSITIONS", 55)
    sizes = []

    def op(x, weight, fast):
        def function(x):
            sizes.append(len(x))
            return torch.conv2d(x, weight).square()

        return samples.few_at_a_time(function, x, fast)

    assert_same(op, normal(n, 3, 4, 5), normal(2, 3, 3, 3, seed=2))
    assert sizes == [*seen, n]
