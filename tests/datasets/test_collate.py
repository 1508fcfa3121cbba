import multiprocessing.reduction
import pickle

import torch
from mmagic.structures import DataSample
from mmengine.dataset import pseudo_collate

from spynco_mm.datasets import colorization_collate


def packed(index, side=4):
    sample = DataSample(metainfo=dict(sample_idx=index, img_path=f"{index}.png"))
    sample.set_gt_label(index)
    sample.set_tensor_data(dict(img_gray=torch.full((3, side, side), index)))
    inputs = dict(img_gray=torch.rand(3, side, side), img_color=torch.rand(3, side, side))
    return dict(inputs=inputs, data_samples=sample)


def send(batch):
    """As between processes."""
    return pickle.loads(multiprocessing.reduction.ForkingPickler.dumps(batch))


def assert_same_samples(received, samples):
    assert len(received) == len(samples)
    for got, sample in zip(received, samples):
        assert isinstance(got, DataSample)
        assert set(got.keys()) == set(sample.keys())
        assert got.metainfo == sample.metainfo
        assert torch.equal(got.img_gray, sample.img_gray)
        assert torch.equal(got.gt_label.label, sample.gt_label.label)


def test_same_content_as_pseudo_collate_before_and_after_sending():
    items = [packed(i) for i in range(3)]
    batch, expected = colorization_collate(items), pseudo_collate(items)
    for got in (batch, send(batch)):
        for key, tensors in expected["inputs"].items():
            assert torch.equal(got["inputs"][key], torch.stack(tensors))
        assert_same_samples(got["data_samples"], expected["data_samples"])


def test_pictures_of_different_sizes_stay_apart():
    items = [packed(0), packed(1, side=5)]
    batch = send(colorization_collate(items))
    assert [tuple(image.shape) for image in batch["inputs"]["img_gray"]] == [(3, 4, 4), (3, 5, 5)]
    assert_same_samples(batch["data_samples"], [item["data_samples"] for item in items])


def test_inputs_of_one_key_are_a_tensor():
    items = [dict(packed(i), inputs=torch.rand(3, 4, 4)) for i in range(2)]
    assert colorization_collate(items)["inputs"].shape == (2, 3, 4, 4)
