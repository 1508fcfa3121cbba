"""Draws that depend on the seed, the epoch and the item, and on nothing else."""

import random
from collections.abc import Iterator, Sized
from contextlib import contextmanager

import numpy as np
import torch
from mmagic.registry import DATA_SAMPLERS
from mmengine.dataset import (
    ClassBalancedDataset,
    ConcatDataset,
    DefaultSampler,
    RepeatDataset,
)


@DATA_SAMPLERS.register_module()
class EpochSampler(DefaultSampler):
    """mmengine's ``DefaultSampler`` that hands each item a random seed of its own.

    It yields ``(index, item_seed)``. The seeds follow from the sampler's seed and the epoch, so a
    data set that draws under them (:class:`ColorizationDataset`) gives the same items for the same
    seed with any number of workers or processes, also after a resume, and others in each epoch.

    Args:
        dataset: A data set that takes such an index.
        shuffle, seed, round_up: As ``DefaultSampler`` takes them.

    Raises:
        ValueError: It is one of mmengine's wrappers of data sets, which take none.
    """

    def __init__(
        self,
        dataset: Sized,
        shuffle: bool = True,
        seed: int | None = None,
        round_up: bool = True,
    ):
        if isinstance(dataset, (ConcatDataset, RepeatDataset, ClassBalancedDataset)):
            raise ValueError(
                f"EpochSampler gives each item a seed, which a {type(dataset).__name__} cannot "
                "pass on; set sampler=dict(type='DefaultSampler', shuffle=True) beside it."
            )
        super().__init__(dataset, shuffle, seed, round_up)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        sequence = np.random.SeedSequence([self.seed, self.epoch])
        seeds = sequence.generate_state(len(self.dataset)).tolist()
        return ((index, seeds[index]) for index in super().__iter__())


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Run a block with the global generators at a 32-bit seed and put them back afterwards.

    mmcv's and mmagic's transforms draw from ``random``, ``numpy.random`` and torch's CPU generator.
    Without workers these are the training loop's own generators, hence the restoring.
    """
    python, numpy, torch_state = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)  # torch.manual_seed would reach for CUDA as well
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(torch_state)
