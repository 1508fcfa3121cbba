"""The pool as one tensor against mmagic's, which asks image by image."""

import numpy as np
import pytest
import torch
from mmagic.models.editors.cyclegan.cyclegan_modules import GANImageBuffer
from simulated_gpu import simulated_gpu

from spynco_mm.models.image_pool import ImagePool


def batches(sizes, dtype=torch.float32, shape=(1, 2, 2)):
    """All images are different."""
    numbers = torch.arange(1, 1 + sum(sizes), dtype=torch.float64).to(dtype)
    return (numbers.view(-1, 1, 1, 1) * torch.ones(shape, dtype=dtype)).split(list(sizes))


@pytest.mark.parametrize("size", [0, 1, 7, 50])
@pytest.mark.parametrize(
    "sizes", [[1] * 200, [32] * 12, [5, 5, 3] * 20, [120, 7, 120]],
    ids=["one by one", "batches", "odd last ones", "larger than the pool"],
)  # fmt: skip
def test_equal_to_mmagics_image_by_image(size, sizes):
    pool, theirs = ImagePool(size), GANImageBuffer(size)
    exchanged = 0
    for seed, images in enumerate(batches(sizes)):
        np.random.seed(seed)
        expected = theirs.query(images)
        state = np.random.get_state()
        np.random.seed(seed)
        found = pool.query(images)
        assert torch.equal(found, expected)
        assert all(np.array_equal(a, b) for a, b in zip(np.random.get_state(), state))
        exchanged += int((found != images).any())
        if size:
            assert pool.img_num == theirs.img_num
            assert torch.equal(pool.held(), torch.cat(theirs.image_buffer))
    assert (exchanged > 0) == (size > 0)


def test_half_precision_is_kept_whole_and_no_graph_with_it():
    for dtype, kept in ((torch.bfloat16, torch.float32), (torch.float64, torch.float64)):
        pool, (first, second) = ImagePool(2), batches([2, 2], dtype)
        pool.query(first.requires_grad_())
        found = pool.query(second)
        assert found.dtype == pool.held().dtype == kept and not pool.held().requires_grad
        assert set(found.flatten().tolist()) <= {1, 2, 3, 4}


def test_another_size_is_refused():
    pool = ImagePool(3)
    pool.query(torch.zeros(2, 3, 32, 32))
    with pytest.raises(ValueError, match="holds images of 3×32×32, got 3×16×32; train on"):
        pool.query(torch.zeros(2, 3, 16, 32))


@pytest.mark.parametrize("size, left", [(7, 7), (3, 3), (0, 0), (9, 7)])
def test_refilled_with_what_another_held(size, left):
    pool, (images,) = ImagePool(7), batches([7])
    assert pool.held() == []
    pool.query(images)
    other = ImagePool(size)
    other.query(torch.ones(1, 1, 4, 4))  # of another size before
    other.refill(pool.held())
    assert other.img_num == len(other.held()) == left
    assert all(map(torch.equal, other.held(), images))
    other.query(images + 10)
    assert other.img_num == size and torch.equal(pool.held(), images)  # It was a copy.
    other.refill([])
    assert other.held() == []


def test_a_gpu_moves_all_images_at_once_and_nobody_waits_for_it():
    for n in (1, 64):
        pool = ImagePool(50)
        with simulated_gpu() as launches:
            images = torch.ones(n, 3, 32, 32, device="cuda")
            pool.query(images)
            launches.names.clear()
            pool.query(images)
        moves = ["_to_copy.default", "copy_.default", "index_select.default", "index_copy_.default"]
        assert launches.names == [f"aten.{move}" for move in moves]
