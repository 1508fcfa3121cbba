"""Whole batches against those of single items: mmagic's own transforms, collation, preprocessor."""

import copy
import multiprocessing.reduction
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from cifar10_files import write_cifar10
from mmagic.registry import MODELS
from mmagic.structures import DataSample
from mmengine.dataset import pseudo_collate
from mmengine.runner import Runner
from mmengine.structures import LabelData

from spynco_mm.datasets import CIFAR10Colorization, EmbeddedPhotographs, colorization_collate
from spynco_mm.datasets.batches import Items

KEYS = ["img_gray", "img_color"]
PACK = dict(
    type="PackInputs",
    keys=KEYS,
    data_keys=KEYS,
    meta_keys=["img_path", "sample_idx", "photo", *(f"{key}_channel_order" for key in KEYS)],
)
TRANSLATE = dict(type="HandcraftedTranslation", keys=["img_gray"])
PIPELINE = [
    dict(type="Flip", keys=["img_gray"]),
    dict(type="Flip", keys=["img_color"], flip_ratio=0.3),
    dict(type="Flip", keys=KEYS, direction="vertical"),
    TRANSLATE,
    PACK,
]


@pytest.fixture(scope="module")
def cifar10(tmp_path_factory):
    root = tmp_path_factory.mktemp("cifar10")
    write_cifar10(root / "cifar-10-batches-py", per_file=8)

    def make(**kwargs):
        return CIFAR10Colorization(data_root=root, download=False, **kwargs)

    return make


def photographs(**kwargs):
    kwargs = dict(photos=["coffee", "flower"], crop_size=24, crops_per_photo=16, **kwargs)
    return EmbeddedPhotographs(**kwargs)


@pytest.fixture(params=["cifar10", "photographs"])
def make(request, cifar10):
    return cifar10 if request.param == "cifar10" else photographs


def assert_same(one, other):
    """The same types, shapes and numbers, bit for bit, in whatever the loader puts them."""
    if isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype and torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, (DataSample, LabelData)):
        assert_same(dict(one.items()), dict(other.items()))
        assert_same(one.metainfo, other.metainfo)
    elif isinstance(one, (list, tuple)) or not isinstance(other, (str, bytes, int, float)):
        assert len(one) == len(other)
        for pair in zip(one, other):
            assert_same(*pair)
    else:
        assert type(one) is type(other) and one == other


def one_by_one(dataset, indices):
    return colorization_collate([dataset[index] for index in indices])


def whole(dataset, indices):
    batch = dataset.__getitems__(indices)
    assert batch.as_batch(), "it cannot be made as a whole"
    return colorization_collate(batch)
