import pytest
import torch
from mmengine.optim import OptimWrapper

from spynco_mm.engine import LinearDecayLR


def rates(steps, **settings):
    wrapper = OptimWrapper(torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0))
    build = LinearDecayLR.build_iter_from_epoch if "epoch_length" in settings else LinearDecayLR
    scheduler = build(wrapper, **settings)
    seen = []
    for _ in range(steps):
        seen.append(wrapper.get_lr()["lr"][0])
        wrapper.optimizer.step()
        scheduler.step()
    return seen


def test_constant_then_linear_to_0_whatever_the_length():
    """mmengine reaches 0 with the last step, not after it."""
    assert rates(8, end=8) == pytest.approx([1, 1, 1, 1, 1, 2 / 3, 1 / 3, 0])
    # 4 epochs of 2 iterations are the same in iterations.
    assert rates(8, end=4, epoch_length=2) == rates(8, end=8)
    assert rates(4, end=4, constant_for=0) == pytest.approx([1, 2 / 3, 1 / 3, 0])
    assert rates(1, end=1) == [1]


@pytest.mark.parametrize("constant_for", [-0.1, 1])
def test_a_training_that_would_never_decay(constant_for):
    with pytest.raises(ValueError, match=r"constant_for must be in \[0, 1\)"):
        rates(1, end=4, constant_for=constant_for)
