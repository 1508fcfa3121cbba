import pytest
from both_forms import assert_same, normal

from spynco_mm.models.ops import separable_conv


@pytest.mark.parametrize(
    "channels, kernel, first_bias, together",
    [
        (1, 4, False, True),
        # With a bias in between, or where it would cost more, they stay two.
        (1, 4, True, False),
        (8, 4, False, False),
    ],
)
def test_both_forms(monkeypatch, channels, kernel, first_bias, together):
    calls = []
    conv2d = separable_conv.F.conv2d
    monkeypatch.setattr(
        separable_conv.F, "conv2d", lambda x, w, *a: calls.append(w.shape[2:]) or conv2d(x, w, *a)
    )

    def op(x, w1, w2, b1, b2, fast):
        rows = w1, b1 if first_bias else None
        y = separable_conv.separable_conv(x, rows, (w2, b2), 2, 1, fast)
        return y + 0 * b1.sum()

    kernels = normal(8, channels, kernel, 1, seed=2), normal(8, 8, 1, kernel, seed=3)
    assert_same(op, normal(2, channels, 8, 9), *kernels, normal(8), normal(8, seed=4))
    two = [(kernel, 1), (1, kernel)]
    assert calls == [*([(kernel, kernel)] if together else two), *two]
