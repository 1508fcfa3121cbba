"""Whole batches against those of single items, with mmagic's own transforms and preprocessor."""

from collections import Counter

import numpy as np
import pytest
import torch
from cifar10_files import write_cifar10
from mmagic.registry import MODELS, TRANSFORMS
from mmagic.structures import DataSample
from mmengine.dataset import DefaultSampler
from PIL import Image
from same_batches import assert_same, stacked_by_mmengine
from simulated_gpu import Launches, simulated_gpu
from torch.utils.data import DataLoader

from spynco_mm.datasets import (
    CIFAR10Colorization,
    EmbeddedPhotographs,
    EpochSampler,
    FolderColorization,
    colorization_collate,
)
from spynco_mm.models.data_preprocessor import BatchSamples

KEYS = ["img_gray", "img_color"]
ORDERS = [f"{key}_channel_order" for key in KEYS]
TRANSLATE = dict(type="HandcraftedTranslation")
PACK = dict(type="PackInputs", keys=KEYS, data_keys=KEYS)
PACK["meta_keys"] = ["img_path", "sample_idx", "photo", *ORDERS]
FLIPS = [
    dict(type="Flip", keys=["img_gray"]),
    dict(type="Flip", keys=["img_color"], flip_ratio=0.3),
    dict(type="Flip", keys=KEYS, direction="vertical"),
]
TRAIN, TEST = [*FLIPS, TRANSLATE, PACK], [TRANSLATE, PACK]


@pytest.fixture(scope="module")
def cifar10(tmp_path_factory):
    root = tmp_path_factory.mktemp("cifar10")
    write_cifar10(root / "cifar-10-batches-py")

    def make(**kwargs):
        return CIFAR10Colorization(data_root=root, download=False, **kwargs)

    return make


def photographs(**kwargs):
    return EmbeddedPhotographs(
        photos=["coffee", "flower"], crop_size=24, crops_per_photo=10, **kwargs
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pictures to be made grey, others to learn colours from, and real colours of the first."""
    root = tmp_path_factory.mktemp("folder")
    random = np.random.default_rng(0)
    for name in ("gray", "color", "real"):
        (root / name).mkdir()
        for i in range(20):
            pixels = random.integers(0, 256, (18, 20 + i, 3), np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i}.png")

    def make(**kwargs):
        folders = dict(color_dir="color", gray_dir="gray", reference_dir="real")
        return FolderColorization(data_root=root, size=16, **folders, **kwargs)

    return make


@pytest.fixture(params=["cifar10", "folder", "photographs"])
def make(request):
    return photographs if request.param == "photographs" else request.getfixturevalue(request.param)


def epochs(dataset, sampler, collate, first=0):
    """All batches of two epochs, and what the global generator draws after them."""
    loader = DataLoader(dataset, batch_size=6, sampler=sampler, collate_fn=collate)
    np.random.seed(7)
    batches = []
    for epoch in range(first, 2):
        sampler.set_epoch(epoch)
        batches.append(list(loader))
    return batches, np.random.random()


@pytest.mark.parametrize("seed", [0, 5])
@pytest.mark.parametrize("sampler", [EpochSampler, DefaultSampler])
def test_same_batches_as_one_by_one(make, sampler, seed):
    dataset = make(pipeline=TRAIN)
    expected, drawn = epochs(dataset, sampler(dataset, seed=seed), stacked_by_mmengine)
    batches, drawn_too = epochs(dataset, sampler(dataset, seed=seed), colorization_collate)
    assert_same(expected, batches)
    assert drawn == drawn_too
    assert all(isinstance(b["data_samples"], BatchSamples) for epoch in batches for b in epoch)
    flat = torch.cat([b["inputs"]["img_color"] for epoch in batches for b in epoch])
    assert len(flat.flatten(1).unique(dim=0)) > len(dataset) / 2  # they are not all one picture
    if sampler is EpochSampler:
        # A run that goes on repeats the interrupted epoch, whatever was drawn before.
        dataset = make(pipeline=TRAIN)
        again, _ = epochs(dataset, sampler(dataset, seed=seed), colorization_collate, first=1)
        assert_same(expected[1:], again)


def test_same_pictures_to_evaluate(make):
    dataset = make(pipeline=TEST, test_mode=True)
    sampler = DefaultSampler(dataset, shuffle=False)
    expected, _ = epochs(dataset, sampler, stacked_by_mmengine)
    assert_same(expected, epochs(dataset, sampler, colorization_collate)[0])


def test_ranks_share_the_same_pictures(make, monkeypatch):
    parts = []
    for rank in range(2):
        dataset = make(pipeline=TRAIN)
        monkeypatch.setattr("mmengine.dataset.sampler.get_dist_info", lambda rank=rank: (rank, 2))
        pair = [
            epochs(dataset, EpochSampler(dataset, seed=1), collate)[0]
            for collate in (stacked_by_mmengine, colorization_collate)
        ]
        assert_same(*pair)
        parts.append({s.sample_idx for batch in pair[1][0] for s in batch["data_samples"]})
    assert parts[0] | parts[1] == {*range(20)} and not parts[0] & parts[1]


def test_a_subset_is_of_its_own_pictures(cifar10):
    dataset = cifar10(pipeline=TRAIN)
    dataset.__getitems__([0]).as_batch()
    dataset.get_subset_([3, 5, 11])
    indices = [(2, 8), (0, 9)]
    expected = stacked_by_mmengine([dataset[index] for index in indices])
    assert_same(expected, colorization_collate(dataset.__getitems__(indices)))
    assert [s.img_path[-6:] for s in expected["data_samples"]] == ["11.png", "03.png"]


def test_nothing_but_draws_is_done_picture_by_picture(make, monkeypatch):
    dataset = make(pipeline=TRAIN)
    preprocessor = MODELS.build(dict(type="BatchDataPreprocessor", data_keys=KEYS))
    calls = Counter()

    def count(cls, method):
        original = getattr(cls, method)

        def counted(self, *args, **kwargs):
            calls[cls.__name__] += 1
            return original(self, *args, **kwargs)

        monkeypatch.setattr(cls, method, counted)

    for transform in {type(transform) for transform in dataset.pipeline.transforms}:
        count(transform, "transform")
    count(DataSample, "set_field")
    found = []
    dataset.__getitems__([0]).as_batch()  # makes the table
    for size in (4, 16):
        calls.clear()
        with Launches() as launches:
            indices = [(index, index) for index in range(size)]
            batch = colorization_collate(dataset.__getitems__(indices))
            data = preprocessor(batch, True)
        found.append((dict(calls), launches.names))
    assert found[0] == found[1]
    assert set(calls) == {"DataSample"} and calls["DataSample"] < 20 and len(launches.names) < 60
    assert data["data_samples"].sample_idx == [*range(16)]  # made now


@pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")  # mmengine copies
def test_on_a_gpu(make):
    """Assembled there, with nothing waited for, from a table that is sent once."""
    dataset = make(pipeline=TRAIN, device="cuda")
    preprocessor = MODELS.build(dict(type="BatchDataPreprocessor", data_keys=KEYS))
    *_, translate, _ = dataset.pipeline.transforms
    with simulated_gpu(translate.translation, preprocessor) as launches:
        for size in (4, 16, 16):
            launches.names.clear()
            indices = [(index, index) for index in range(size)]
            batch = colorization_collate(dataset.__getitems__(indices))
            inputs = preprocessor(batch, True)["inputs"]
            for image in (*batch["inputs"].values(), *inputs.values()):
                assert image.device.type == "cuda" and image.shape[:2] == (size, 3)
    sent = [name for name in launches.names if "_to_copy" in name]
    assert len(launches.names) < 60 and len(sent) < 6, launches.names


@pytest.mark.parametrize(
    "pipeline, reason",
    [
        ([dict(type="Resize", keys=KEYS, scale=(16, 16)), *TEST], "Resize takes pictures one by"),
        ([dict(type="Flip", keys=["img"]), *TEST], "Flip has other keys than img_gray, img_color"),
        ([TRANSLATE, *TEST], "a picture is translated twice"),
        ([TRANSLATE], "does not end in PackInputs with the keys img_gray, img_color"),
        ([TRANSLATE, dict(PACK, keys="img_gray")], "does not end in PackInputs"),
        ([TRANSLATE, dict(PACK, data_keys=["photo"])], "has other data_keys than img_gray, img_c"),
        ([*TRAIN[:-1], dict(PACK, meta_keys=["flip_infos"])], "wants the flip_infos"),
    ],
)
def test_says_why_not(cifar10, monkeypatch, pipeline, reason):
    said = []
    monkeypatch.setattr("spynco_mm.datasets.base.print_log", lambda text, _: said.append(text))
    dataset = cifar10(pipeline=pipeline)
    for _ in range(2):
        assert dataset.__getitems__([0, 1]).as_batch() is None
    (line,) = said
    assert reason in line and "batches are made picture by picture, since" in line


def test_another_transform_or_method_is_not_passed_over(cifar10):
    resize = dict(type="Resize", keys=KEYS, scale=(16, 16))
    dataset = cifar10(pipeline=TEST, test_mode=True)
    assert dataset.__getitems__([0]).as_batch()
    dataset.pipeline.transforms.insert(0, TRANSFORMS.build(resize))
    inputs = colorization_collate(dataset.__getitems__([0, 1]))["inputs"]
    assert inputs["img_color"].shape == (2, 3, 16, 16)

    class Dark(CIFAR10Colorization):
        def read_picture(self, place):
            return super().read_picture(place) // 2

    dataset = Dark(data_root=dataset.data_root, pipeline=TEST, test_mode=True)
    inputs = colorization_collate(dataset.__getitems__([0, 1]))["inputs"]
    assert inputs["img_color"].max() < 128
