"""Batches that are cheap to send from a worker to the training process."""

from collections.abc import Sequence

import torch
from mmagic.structures import DataSample
from mmengine.dataset import pseudo_collate
from mmengine.registry import FUNCTIONS
from mmengine.structures import LabelData


class _SampleList(list):
    """A list of ``DataSample`` that travels between processes as one tensor per field."""

    def __reduce__(self) -> tuple:
        fields = {}
        for key in self[0].keys() if self else ():
            values = [sample.get(key) for sample in self]
            if isinstance(values[0], LabelData):
                values = [value.label for value in values]
            fields[key] = values
            if len({value.shape for value in values}) == 1:
                fields[key] = torch.stack(values)
        return _unpack, (fields, [sample.metainfo for sample in self])


def _unpack(fields: dict, metainfos: list[dict]) -> _SampleList:
    samples = _SampleList()
    for index, metainfo in enumerate(metainfos):
        sample = DataSample(metainfo=metainfo)
        for key, values in fields.items():
            if key == "gt_label":
                sample.set_gt_label(values[index])
            else:
                sample.set_field(values[index], key)
        samples.append(sample)
    return samples


@FUNCTIONS.register_module()
def colorization_collate(batch: Sequence[dict]) -> dict:
    """mmengine's ``pseudo_collate`` with the same result for a data preprocessor, sent faster.

    Every tensor that a worker sends costs a file descriptor and two system calls, which for small
    pictures is far more than making them. Pictures of one size are therefore sent as one tensor per
    key, and so are the fields of the data samples, which arrive as a list as always.

    Args:
        batch: Packed items, each ``dict(inputs=..., data_samples=DataSample)``.

    Returns:
        ``dict(inputs=..., data_samples=[...])``, where inputs of one shape are stacked, N×C×H×W,
        and others are a list.
    """

    def stack(tensors: list[torch.Tensor]):
        return torch.stack(tensors) if len({t.shape for t in tensors}) == 1 else tensors

    collated = pseudo_collate(batch)
    inputs = collated["inputs"]
    if isinstance(inputs, dict):
        collated["inputs"] = {key: stack(tensors) for key, tensors in inputs.items()}
    else:
        collated["inputs"] = stack(inputs)
    collated["data_samples"] = _SampleList(collated["data_samples"])
    return collated
