import pytest
from both_forms import assert_same, choose_forms, normal

from spynco_mm.models.ops import matmul, upsampled_conv


def both_forms(kernel=3, size=(5, 7), first_bias=True, second_bias=True):
    biases = [normal(4, seed=seed) for seed in (4, 5)]

    def op(x, w1, w2, b1, b2, fast):
        rows, columns = (w1, b1 if first_bias else None), (w2, b2 if second_bias else None)
        # Unused, an argument would have no gradient.
        return upsampled_conv.upsampled_conv(x, rows, columns, fast) + 0 * (b1 + b2).sum()

    kernels = normal(4, 3, kernel, 1, seed=2), normal(4, 4, 1, kernel, seed=3)
    y = assert_same(op, normal(2, 3, *size), *kernels, *biases)
    assert y.shape == (2, 4, 2 * size[0], 2 * size[1])


@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("size", [(4, 4), (5, 7), (1, 2)])
def test_both_forms(kernel, size):
    both_forms(kernel, size)


@pytest.mark.parametrize("biases", [(True, False), (False, True), (False, False)])
def test_without_bias(biases):
    both_forms(3, (5, 7), *biases)


@pytest.mark.parametrize("rows", [0, 10**9])
def test_with_either_library(monkeypatch, rows):
    monkeypatch.setattr(matmul, "MIN_ROWS", rows)
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: "AVX512")
    both_forms()


def test_as_on_a_gpu(monkeypatch):
    choose_forms(monkeypatch, "gpu")
    both_forms()
    both_forms(size=(1, 2))
    both_forms(size=(4, 4), second_bias=False)


def test_in_several_blocks(monkeypatch):
    monkeypatch.setattr(upsampled_conv, "BLOCK", 12)
    both_forms()
