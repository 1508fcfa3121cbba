import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.runner import Runner
from PIL import Image

from spynco_mm.datasets import (
    DataError,
    EpochSampler,
    FolderColorization,
    UCMercedColorization,
    folder,
)

CONFIGS = Path(__file__).parents[2] / "configs"


def save(path, value, size=(20, 16)):
    """A picture of one colour, whose red channel tells it from the others."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, 10, 200)).save(path)


def value(image):
    assert image.min(axis=(0, 1)).tolist() == image.max(axis=(0, 1)).tolist()
    return int(image[0, 0, 0])


@pytest.fixture
def flat(tmp_path):
    for i in range(10):
        save(tmp_path / "all" / f"{i}.png", i)
    return tmp_path


@pytest.fixture
def ucmerced(tmp_path):
    for c, name in enumerate(["agricultural", "beach", "river"]):
        for i in range(5):
            save(tmp_path / "Images" / name / f"{name}{i:02}.tif", 10 * c + i, (256, 250 + i))
    return tmp_path


def names(dataset):
    return [os.path.basename(dataset.get_data_info(i)["img_path"]) for i in range(len(dataset))]


@pytest.mark.parametrize("cache_mb", [0, 2048])
def test_training_is_unpaired_and_testing_paired(flat, cache_mb):
    kwargs = dict(data_root=flat, color_dir="all", cache_mb=cache_mb)
    train = FolderColorization(**kwargs)
    assert (train.cache is None) == (cache_mb == 0)
    seen = set()
    for epoch in range(20):
        sampler = EpochSampler(train, seed=0)
        sampler.set_epoch(epoch)
        for index, seed in sampler:
            item = train[index, seed]
            assert value(item["img_gray"]) == index
            assert value(item["img_color"]) != index
            seen.add((index, value(item["img_color"])))
    assert len(seen) > 75  # of the 90 pairs there are; 200 draws miss a few
    test = FolderColorization(test_mode=True, **kwargs)
    for index in range(10):
        item = test[index]
        assert value(item["img_gray"]) == value(item["img_color"]) == index
        assert not np.shares_memory(item["img_gray"], item["img_color"])


def test_the_cache_survives_transforms_in_place(flat):
    dataset = FolderColorization(data_root=flat, color_dir="all", test_mode=True)
    item = dataset[4]
    item["img_gray"][:] = 0
    item["img_color"][:] = 0
    assert value(dataset[4]["img_gray"]) == 4


def test_a_single_picture_has_no_other(tmp_path):
    save(tmp_path / "a.png", 7)
    assert value(FolderColorization(data_root=tmp_path)[0]["img_color"]) == 7


def test_a_set_that_does_not_fit_is_verified_and_read_from_disk(flat):
    picture = 20 * 16 * 3 / 2**20
    assert FolderColorization(data_root=flat, cache_mb=10.1 * picture).cache is not None
    dataset = FolderColorization(data_root=flat, cache_mb=9.9 * picture)
    assert dataset.cache is None
    save(flat / "all" / "3.png", 99)
    assert value(dataset[3]["img_gray"]) == 99
    (flat / "all" / "3.png").write_text("oops")
    with pytest.raises(DataError, match=r"1 of 10 pictures .*3\.png: this is not a picture"):
        FolderColorization(data_root=flat, cache_mb=0)


def test_all_bad_files_are_named_at_once(flat):
    for i in range(12):
        (flat / "all" / f"bad{i:02}.png").touch()
    save(flat / "all" / "small.png", 0, size=(40, 15))
    with pytest.raises(DataError) as info:
        FolderColorization(data_root=flat)
    message = str(info.value)
    assert message.startswith("13 of 23 pictures cannot be used: ")
    assert all(f"bad{i:02}.png: the file is empty" in message for i in range(10))
    assert "bad10.png" not in message and message.endswith("And 3 more.")


def test_min_size(flat):
    with pytest.raises(DataError, match=r"9\.png: its 20×16 pixels are below min_size=17"):
        FolderColorization(data_root=flat, min_size=17)


def test_size(tmp_path):
    save(tmp_path / "wide.png", 1, size=(90, 40))
    save(tmp_path / "tall.png", 2, size=(33, 70))
    dataset = FolderColorization(data_root=tmp_path, size=32)
    assert [dataset[i]["img_gray"].shape for i in range(2)] == [(32, 32, 3)] * 2


def test_cyclegan_layout(tmp_path):
    for domain in "AB":
        for i in range(3):
            save(tmp_path / f"train{domain}" / f"{domain}{i}.jpg", i)
            save(tmp_path / f"test{domain}" / f"{domain}t{i}.jpg", i)
    folders = dict(train="trainA", test="testA")
    train = FolderColorization(data_root=tmp_path, color_dir=folders)
    test = FolderColorization(data_root=tmp_path, color_dir=folders, test_mode=True)
    assert names(train) == ["A0.jpg", "A1.jpg", "A2.jpg"]
    assert names(test) == ["At0.jpg", "At1.jpg", "At2.jpg"]
    paired = FolderColorization(
        data_root=tmp_path, color_dir=folders, split="train", test_mode=True
    )
    assert names(paired) == names(train)
    with pytest.raises(DataError, match="there is no folder for 'test' in"):
        FolderColorization(data_root=tmp_path, color_dir=dict(train="trainA"), test_mode=True)


def test_another_folder_for_domain_a(tmp_path):
    for i in range(4):
        save(tmp_path / "old" / f"{i}.png", i)
    for i in range(3):
        save(tmp_path / "new" / f"{i}.png", 100 + i)
    kwargs = dict(data_root=tmp_path, color_dir="new", gray_dir="old")
    dataset = FolderColorization(**kwargs)
    assert len(dataset) == 4
    items = [dataset[i % 4] for i in range(40)]
    assert [value(item["img_gray"]) for item in items] == [0, 1, 2, 3] * 10
    assert {value(item["img_color"]) for item in items} == {100, 101, 102}
    test = FolderColorization(test_mode=True, **kwargs)
    assert value(test[2]["img_color"]) == 2


def test_grey_pictures_are_no_reference(tmp_path):
    for i in range(3):
        save(tmp_path / "real" / "sub" / f"{i}.png", 50 + i)
        save_grey(tmp_path / "old" / "sub" / f"{i}.png", i)
    kwargs = dict(data_root=tmp_path, color_dir="real", gray_dir="old")
    FolderColorization(**kwargs)  # to learn from, they are what is wanted
    with pytest.raises(
        DataError, match=r"3 of 3 pictures to compare colours with are grey .*0\.png"
    ):
        FolderColorization(test_mode=True, **kwargs)
    test = FolderColorization(test_mode=True, reference_dir="real", **kwargs)
    assert [value(test[i]["img_gray"]) for i in range(3)] == [0, 1, 2]
    assert [value(test[i]["img_color"]) for i in range(3)] == [50, 51, 52]
    (tmp_path / "real" / "sub" / "1.png").unlink()
    with pytest.raises(DataError, match=r"1 of 6 pictures .*real/sub/1\.png"):
        FolderColorization(test_mode=True, reference_dir="real", **kwargs)


def save_grey(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (20, 16), value).save(path)


def test_class_folders(ucmerced):
    kwargs = dict(data_root=ucmerced, color_dir="Images", class_folders=True)
    dataset = FolderColorization(**kwargs)
    assert dataset.metainfo["classes"] == ("agricultural", "beach", "river")
    assert [dataset[i]["gt_label"] for i in range(15)] == [0] * 5 + [1] * 5 + [2] * 5
    assert "gt_label" not in FolderColorization(data_root=ucmerced)[0]
    named = FolderColorization(metainfo=dict(classes=("a", "b", "c")), **kwargs)
    assert named.metainfo["classes"] == ("a", "b", "c")
    save(ucmerced / "Images" / "stray.png", 0)
    with pytest.raises(DataError, match=r"class_folders=True wants .*stray\.png lie beside"):
        FolderColorization(**kwargs)


def test_indices(ucmerced):
    dataset = FolderColorization(
        data_root=ucmerced, color_dir="Images", class_folders=True, indices=[0, 7, 14]
    )
    assert [dataset[i]["gt_label"] for i in range(3)] == [0, 1, 2]
    assert len(dataset.cache) == 3
    assert {value(dataset[0]["img_color"]) for _ in range(30)} == {12, 24}


def test_lazy_init_reads_nothing(tmp_path):
    dataset = FolderColorization(data_root=tmp_path / "later", lazy_init=True)
    save(tmp_path / "later" / "a.png", 1)
    dataset.full_init()
    assert len(dataset) == 1


@pytest.mark.parametrize(
    "kwargs, message",
    [
        (dict(data_root="/nowhere"), "/nowhere: there is no such folder"),
        (dict(reference_dir="b"), "reference_dir has the real colours .* there is no gray_dir"),
        (dict(train_fraction=0.5, gray_dir="b"), "it goes with neither a gray_dir nor"),
        (dict(train_fraction=0.5, color_dir=dict(train="a")), "it goes with neither a gray_dir"),
        (dict(split_file="a.json"), "give train_fraction, or color_dir=dict"),
        (dict(split="test"), "give train_fraction, or color_dir=dict"),
    ],
)
def test_bad_arguments(kwargs, message):
    with pytest.raises(DataError, match=message):
        FolderColorization(**kwargs)


def grey(place, count):
    place.mkdir(exist_ok=True)
    for i in range(count):
        Image.new("L", (20, 16), 10 * i).convert("RGB").save(place / f"grey{i}.png")


def test_there_must_be_colours_to_learn(flat):
    grey(flat / "old", 4)
    with pytest.raises(DataError, match="old: all 4 pictures to learn colours from are grey; put"):
        FolderColorization(data_root=flat, color_dir="old")
    with pytest.raises(DataError, match="all: all 10 pictures"):
        for path in (flat / "all").iterdir():
            Image.open(path).convert("L").save(path)
        FolderColorization(data_root=flat, color_dir="all", gray_dir="old", cache_mb=0)
    # To be coloured, and to be compared with, they may be grey.
    assert len(FolderColorization(data_root=flat, color_dir="old", test_mode=True)) == 4
    save(flat / "all" / "3.png", 3)
    dataset = FolderColorization(data_root=flat, color_dir="all", gray_dir="old")
    assert len(dataset) == 4


def test_what_teaches_nothing_or_is_not_read_is_said(flat, monkeypatch):
    said = []
    monkeypatch.setattr(folder, "print_log", lambda text, *_: said.append(text))
    grey(flat / "all", 2)
    (flat / "all" / "notes.txt").touch()
    (flat / "all" / "split_seed0_0.8.json").touch()
    for test_mode in (False, True):
        FolderColorization(data_root=flat, color_dir="all", test_mode=test_mode)
    assert said == [
        f"1 file is no picture we read: {flat}/all/notes.txt.",
        f"2 of 12 pictures to learn colours from are grey: {flat}/all/grey0.png, "
        f"{flat}/all/grey1.png.",
    ]


def test_forty_pictures_show_progress(tmp_path):
    """Four iterations an epoch, fewer than the interval of the log."""
    for i in range(40):
        save(tmp_path / "pictures" / f"{i}.png", 6 * i, size=(72, 72))
    cfg = Config.fromfile(CONFIGS / "spynco_folder.py")
    root = str(tmp_path / "pictures")
    cfg.merge_from_dict(
        {
            "work_dir": str(tmp_path / "run"),
            "experiment_name": "forty",
            "model.generator.base_channels": 4,
            "model.generator.num_blocks": 1,
            "model.discriminator.channels": (4, 8, 8, 8),
            "train_dataloader.dataset.data_root": root,
            "train_dataloader.num_workers": 0,
            "train_dataloader.persistent_workers": False,
            "val_dataloader.dataset.data_root": root,
            "test_dataloader.dataset.data_root": root,
            "train_cfg.max_epochs": 1,
        }
    )
    Runner.from_cfg(cfg).train()
    (log,) = (tmp_path / "run").glob("*/*.log")
    assert re.search(r"Epoch\(train\) \[1\]\[4/4\].* eta: \d:\d\d:\d\d ", log.read_text())
    assert (tmp_path / "pictures" / "split_seed0_0.8.json").exists()


# The random split


def test_split_of_one_folder(flat):
    kwargs = dict(data_root=flat, color_dir="all", train_fraction=0.8, split_seed=5)
    train, test = FolderColorization(**kwargs), FolderColorization(test_mode=True, **kwargs)
    assert len(train) == 8 and len(test) == 2
    assert sorted(names(train) + names(test)) == [f"{i}.png" for i in range(10)]
    file = flat / "split_all_seed5_0.8.json"
    assert json.loads(file.read_text())["test"] == names(test)
    assert [path.name for path in flat.iterdir() if path != file] == ["all"]  # nothing left over
    others = [names(FolderColorization(**{**kwargs, "split_seed": seed})) for seed in range(4)]
    here = FolderColorization(**{**kwargs, "color_dir": str(flat / "all")})  # which ends as it may
    assert names(here) == names(FolderColorization(**kwargs))
    assert any(other != names(train) for other in others)


def test_the_split_is_the_same_everywhere_and_reused(flat, tmp_path):
    kwargs = dict(data_root=flat, color_dir="all", train_fraction=0.8)
    first = names(FolderColorization(**kwargs))
    file = flat / "split_all_seed0_0.8.json"
    file.unlink()
    assert names(FolderColorization(**kwargs)) == first
    saved = json.loads(file.read_text())
    saved["train"], saved["test"] = saved["test"], saved["train"]
    file.write_text(json.dumps(saved))
    assert names(FolderColorization(**kwargs)) == saved["train"]


def test_split_file_of_the_users_choice(flat):
    file = flat / "mine.json"
    kwargs = dict(data_root=flat, color_dir="all", train_fraction=0.5, split_file=str(file))
    dataset = FolderColorization(**kwargs)
    assert json.loads(file.read_text())["train"] == names(dataset)
    assert not list(flat.glob("split*"))
    with pytest.raises(DataError, match=r"mine\.json: this split was made with seed 0 .*not 1 and"):
        FolderColorization(split_seed=1, **kwargs)


def test_a_split_that_no_longer_fits(flat):
    kwargs = dict(data_root=flat, color_dir="all", train_fraction=0.8)
    FolderColorization(**kwargs)
    os.rename(flat / "all" / "3.png", flat / "all" / "new.png")
    with pytest.raises(
        DataError, match=r"1 of it are missing \(3\.png\) and 1 are not in it \(new\.png\)"
    ):
        FolderColorization(**kwargs)


def test_a_damaged_split_file(flat):
    (flat / "split_all_seed0_0.8.json").write_text('{"train": [')
    with pytest.raises(DataError, match=r"0\.8\.json: this is not a split file"):
        FolderColorization(data_root=flat, color_dir="all", train_fraction=0.8)


@pytest.mark.parametrize("fraction", [0.0, 1.0, 0.01])
def test_a_split_with_an_empty_side(flat, fraction):
    with pytest.raises(DataError, match="train_fraction"):
        FolderColorization(data_root=flat, color_dir="all", train_fraction=fraction)


def test_a_split_that_cannot_be_saved(flat):
    with pytest.raises(DataError, match=r"the split cannot be saved .*name a split_file"):
        FolderColorization(
            data_root=flat,
            color_dir="all",
            train_fraction=0.5,
            split_file=str(flat / "no" / "split.json"),
        )


def test_ucmerced(ucmerced):
    train = UCMercedColorization(data_root=ucmerced)
    test = UCMercedColorization(data_root=ucmerced, test_mode=True)
    assert len(train) == 12 and len(test) == 3
    assert not set(names(train)) & set(names(test))
    assert train.metainfo["classes"] == ("agricultural", "beach", "river")
    for dataset in (train, test):
        for i in range(len(dataset)):
            item = dataset[i]
            assert item["img_gray"].shape == (256, 256, 3)
            assert item["img_path"].split("/")[-2] == train.metainfo["classes"][item["gt_label"]]
    assert (ucmerced / "split_Images_seed0_0.8.json").exists()
    shutil.rmtree(ucmerced / "Images")
    with pytest.raises(DataError, match=r"no folder 'Images' .*spynco-prepare-data ucmerced"):
        UCMercedColorization(data_root=ucmerced)
