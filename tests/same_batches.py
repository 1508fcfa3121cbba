"""Batches as mmengine makes them, and whether others are the same."""

import torch
from mmagic.structures import DataSample
from mmengine.dataset import pseudo_collate
from mmengine.structures import LabelData


def stacked_by_mmengine(items):
    """mmengine's batch, with the inputs stacked as mmagic's preprocessor would."""
    batch = pseudo_collate(items)
    inputs = {key: torch.stack(images) for key, images in batch["inputs"].items()}
    return dict(batch, inputs=inputs)


def assert_same(one, other):
    """The same types, shapes and numbers, bit for bit."""
    if isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype and torch.equal(one, other)
    elif isinstance(one, (DataSample, LabelData)):
        assert_same(dict(one.items()), dict(other.items()))
        assert_same(one.metainfo, other.metainfo)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, list):
        assert len(one) == len(other) > 0
        for pair in zip(one, other):
            assert_same(*pair)
    else:
        assert type(one) is type(other) and one == other
