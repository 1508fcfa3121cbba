"""Batches of pictures that are in memory, made as a whole: the same as one by one, bit for bit."""

from collections.abc import Sequence
from functools import cached_property, partial

import numpy as np
import torch
from mmagic.registry import TRANSFORMS
from mmagic.structures import DataSample
from mmcv.transforms import BaseTransform
from mmengine.dataset import BaseDataset

from spynco_mm.models.data_preprocessor import BatchSamples

from .transforms import HandcraftedTranslationTransform

KEYS = ("img_gray", "img_color")
#: Draws what the global generator would under the same seed, and leaves that one as it is.
SEEDED = np.random.RandomState(0)
ORDERS = tuple(f"{key}_channel_order" for key in KEYS)


class Items(Sequence):
    """The items of a batch: one by one to everybody, or :meth:`as_batch`.

    Args:
        dataset: Their ``ColorizationDataset``.
        indices: As a sampler gives them.
    """

    def __init__(self, dataset: BaseDataset, indices: Sequence[int | tuple[int, int]]):
        self.dataset = dataset
        self.indices = indices

    @cached_property
    def _items(self) -> list[dict]:
        return [self.dataset[index] for index in self.indices]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> dict:
        return self._items[index]

    def as_batch(self) -> dict | None:
        """What ``colorization_collate`` makes of the items, or None if it has to be made of them.

        That is where the data set has no table of its pictures, or a transform is not known here.
        """
        if self.dataset.whole_batches:
            return _assemble(self.dataset, self.indices)
        return None


def reason_against(dataset: BaseDataset) -> str | None:
    """Why the batches of a data set are not made as a whole; None if they are."""
    # By name, since mmagic's transforms bring all of its data sets with them.
    flip, pack_inputs = (TRANSFORMS.get(name) for name in ("Flip", "PackInputs"))
    *transforms, pack = dataset.pipeline.transforms or [None]
    if type(pack) is not pack_inputs or {*pack.keys} != {*KEYS}:
        return f"the pipeline does not end in PackInputs with the keys {', '.join(KEYS)}"
    if "flip_infos" in (*pack.data_keys, *pack.meta_keys):
        return "PackInputs wants the flip_infos of single pictures"
    if not {*pack.data_keys} <= {*KEYS}:
        return f"PackInputs has other data_keys than {', '.join(KEYS)}"
    translated = []
    for transform in transforms:
        if type(transform) not in (flip, HandcraftedTranslationTransform):
            return f"{type(transform).__name__} takes pictures one by one"
        if not {*transform.keys} <= {*KEYS}:
            return f"{type(transform).__name__} has other keys than {', '.join(KEYS)}"
        if type(transform) is HandcraftedTranslationTransform:
            translated += transform.keys
    if len({*translated}) < len(translated):
        return "a picture is translated twice"
    for cls in type(dataset).__mro__:
        if "gather" in vars(cls):
            break
        methods = ("item", "read_picture", "prepare_data", "__getitem__")
        if overridden := [name for name in methods if name in vars(cls)]:
            return f"{cls.__name__} has its own {overridden[0]}"
    return None


def _flip(flip: BaseTransform, images: torch.Tensor, flipped: torch.Tensor) -> torch.Tensor:
    """Flip those of N×C×H×W images for which the N numbers are 1 and not 0."""
    both = torch.cat([images, images.flip(-1 if flip.direction == "horizontal" else -2)])
    rows = torch.arange(len(images), device=images.device)
    return both.index_select(0, rows + len(images) * flipped)


def _assemble(dataset: BaseDataset, indices: Sequence[int | tuple[int, int]]) -> dict:
    """A batch as a whole, on the device of the data set's table.

    Only the draws are made item by item: first the pictures, then the flips, as the pipeline does.
    """
    *transforms, pack = dataset.pipeline.transforms
    flips = [t for t in transforms if not isinstance(t, HandcraftedTranslationTransform)]
    ratios = [flip.flip_ratio for flip in flips]
    infos, grays, colors, flipped = [], [], [], []
    dataset.keep_entries()
    for index in indices:
        random = np.random
        if isinstance(index, tuple):
            index, seed = index
            random = SEEDED
            random.seed(seed)
        info = dataset.entry(index)
        gray, color = dataset.pair(info, random)
        infos.append(info)
        grays.append(gray)
        colors.append(color)
        for ratio in ratios:
            flipped.append(random.random() < ratio)

    table = dataset.placed_table
    images = dict(zip(KEYS, dataset.gather(table, grays + colors).chunk(2)))
    orders = dict.fromkeys(ORDERS, "rgb")
    flipped = torch.tensor(flipped, dtype=torch.int64).to(table.device, non_blocking=True)
    draws = iter(flipped.view(len(infos), len(flips)).T)
    for transform in transforms:
        drawn = next(draws) if transform in flips else None
        for key in transform.keys:
            if drawn is not None:
                images[key] = _flip(transform, images[key], drawn)
                continue
            images[key] = transform.translate(images[key])
            orders[f"{key}_channel_order"] = "single" if images[key].shape[1] == 1 else "rgb"
    kind = {key: order for key, order in orders.items() if key in pack.meta_keys}
    stack = partial(_pack, pack, infos, images, orders)
    return dict(inputs=dict(images), data_samples=BatchSamples(stack, len(infos), kind))


def _pack(pack: BaseTransform, infos: list[dict], images: dict, orders: dict) -> DataSample:
    """The data samples, stacked."""
    results = {key: [info[key] for info in infos] for key in infos[0]}
    if "gt_label" in results:
        results["gt_label"] = torch.tensor(results["gt_label"])[:, None]
    results.update({key: [order] * len(infos) for key, order in orders.items()})
    return pack(dict(results, **images))["data_samples"]
