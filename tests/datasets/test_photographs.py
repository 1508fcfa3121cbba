import numpy as np
import pytest

from spynco_mm.datasets import DataError, EmbeddedPhotographs, read_image
from spynco_mm.datasets.photographs import PHOTOGRAPHS, photograph_path


@pytest.fixture(scope="module")
def train():
    return EmbeddedPhotographs(crops_per_photo=5)


@pytest.fixture(scope="module")
def test():
    return EmbeddedPhotographs(test_mode=True)


def test_all_ten_photographs_are_on_disk_and_no_loader_is_called(monkeypatch):
    import skimage.data._fetchers as fetchers

    def download(*args, **kwargs):
        raise AssertionError("a download was tried")

    monkeypatch.setattr(fetchers, "_fetch", download)
    assert len(PHOTOGRAPHS) == 10
    for name in PHOTOGRAPHS:
        assert read_image(photograph_path(name)).std() > 20


def test_items(train):
    assert len(train) == 50
    assert train.metainfo["classes"] == tuple(PHOTOGRAPHS)
    item = train[12]
    assert item["photo"] == "chelsea" and item["gt_label"] == 2 and item["sample_idx"] == 12
    assert item["img_path"].endswith("chelsea.png")
    assert item["img_gray_channel_order"] == item["img_color_channel_order"] == "rgb"
    for key in ("img_gray", "img_color"):
        assert item[key].shape == (32, 32, 3) and item[key].dtype == np.uint8


def test_test_items_are_paired_and_fixed(test):
    assert len(test) > 50
    for index in (0, len(test) - 1):
        item = test[index]
        np.testing.assert_array_equal(item["img_gray"], item["img_color"])
        assert not np.shares_memory(item["img_gray"], item["img_color"])
        np.testing.assert_array_equal(item["img_gray"], test[index]["img_gray"])
    assert {test[index]["photo"] for index in range(len(test))} == set(PHOTOGRAPHS)


def test_test_crops_do_not_overlap(test):
    taken = [np.zeros(region.shape[:2], int) for region in test.regions]
    for index in range(len(test)):
        info = test.get_data_info(index)
        top, left = info["corner"]
        crop = taken[info["gt_label"]][top : top + 32, left : left + 32]
        assert crop.shape == (32, 32)
        crop += 1
    assert all(region.max() == 1 for region in taken)


def test_regions_are_disjoint_parts_of_the_photograph():
    photo = read_image(photograph_path("coffee"))
    kwargs = dict(photos=["coffee"], short_side=None, crop_size=100, gap=10)
    train, test = EmbeddedPhotographs(**kwargs), EmbeddedPhotographs(split="test", **kwargs)
    (left, right), (test_left, test_right) = train.columns(600), test.columns(600)
    assert (left, right, test_left, test_right) == (0, 440, 450, 600)
    np.testing.assert_array_equal(train.regions[0], photo[:, left:right])
    np.testing.assert_array_equal(test.regions[0], photo[:, test_left:test_right])


def test_a_test_pixel_reaches_no_training_crop(monkeypatch):
    """The cut comes before the reduction, whose filter would else carry pixels across."""
    photo = read_image(photograph_path("coffee"))
    before = EmbeddedPhotographs(photos=["coffee"], gap=0)
    changed = photo.copy()
    changed[:, before.columns(600)[1] :] = 255
    monkeypatch.setattr("spynco_mm.datasets.photographs.read_image", lambda path: changed)
    after = EmbeddedPhotographs(photos=["coffee"], gap=0)
    np.testing.assert_array_equal(before.regions[0], after.regions[0])


def test_the_cache_survives_transforms_in_place(train, test):
    for dataset in (train, test):
        before = [region.copy() for region in dataset.regions]
        item = dataset[0]
        item["img_gray"][:] = 0
        item["img_color"][:] = 0
        for region, copy in zip(dataset.regions, before):
            np.testing.assert_array_equal(region, copy)


def test_the_training_part_in_test_mode():
    """As for generating colorized training sets."""
    dataset = EmbeddedPhotographs(photos=["china"], split="train", test_mode=True)
    assert dataset.columns(640)[0] == 0
    assert dataset.split == "train"


@pytest.mark.parametrize(
    "kwargs, message",
    [
        (dict(photos=["lena"]), "there is no photograph 'lena'; choose from astronaut"),
        (dict(photos=[]), "at least one photograph"),
        (dict(crop_size=64, short_side=64, split="test"), "does not give crops of 64"),
        (dict(short_side=5000), "change short_side"),
        (dict(test_fraction=1.0), "test_fraction lies between 0 and 1"),
        (dict(split="val"), "there is no split 'val'; use 'train' or 'test'"),
    ],
)
def test_bad_arguments(kwargs, message):
    with pytest.raises(DataError, match=message):
        EmbeddedPhotographs(**kwargs)


def test_a_package_that_is_missing(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DataError, match="pip install scikit-learn, or leave the photograph out"):
        EmbeddedPhotographs(photos=["flower"])
