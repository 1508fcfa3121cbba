"""What all colorization data sets share: unpaired in training, paired in testing, reproducible."""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from mmengine.dataset import BaseDataset
from mmengine.device import get_device
from mmengine.logging import print_log
from torch.utils.data import get_worker_info

from .batches import Items, reason_against
from .images import DataError
from .samplers import seeded

#: Where an item finds a picture; what it is, is up to the data set.
Place = Any


class ColorizationDataset(BaseDataset):
    """Pairs of a picture to be turned grey and a picture that shows what colours look like.

    An item, before the pipeline, is a dict with

    - ``img_gray``: H×W×3 uint8 RGB of picture i, the source of domain A. It is still in colour; the
      transform ``HandcraftedTranslation`` makes it grey.
    - ``img_color``: H×W×3 uint8 RGB for domain B. In training another picture j ≠ i drawn at random
      (the training is unpaired; only a set of one picture has no other), in testing picture i.
    - ``img_gray_channel_order`` and ``img_color_channel_order``, both ``'rgb'``, ``img_path``,
      ``sample_idx``, and ``gt_label`` (of picture i) where the pictures have classes. Their names
      are ``metainfo['classes']``.

    Index it with an int, and it draws from the global generators, as mmagic's data sets do. Index
    it with ``(int, seed)``, as :class:`EpochSampler` does, and the draw of j and the whole pipeline
    run under that seed.

    A data loader with ``colorization_collate`` gets the same batches as a whole, in a fraction of
    the time, if the pictures are in memory and of one size and the pipeline is of transforms that
    :mod:`~spynco_mm.datasets.batches` knows. Otherwise the log says why not.

    A sub-class gives ``load_data_list`` (a dict with ``img_path`` and maybe ``gt_label`` per
    picture) and ``read_picture``; for whole batches ``table`` and ``gather`` as well.

    Args:
        data_root: Folder of the data.
        pipeline: Transforms, as configs or callables.
        test_mode: Paired and without any draw, instead of unpaired.
        split: ``'train'`` or ``'test'``, the pictures to use. None means ``'test'`` in test mode
            and ``'train'`` otherwise; naming it gives, say, the training pictures in test mode.
        metainfo: Overrides the meta information, such as ``classes``.
        indices: Use only the first so many pictures, or the pictures of these indices.
        lazy_init: Do not read anything until it is needed.
        device: Where whole batches are assembled. None means on the GPU that the process trains on,
            if there is one, the pictures take at most a tenth of its free memory, and the loader
            has no workers; else on the CPU. A loader with ``pin_memory=True`` wants ``'cpu'``.
    """

    _judged: tuple[list, bool] | None = None  # a pipeline, and whether it takes whole batches
    _entries: Sequence[dict] = ()
    _entries_of: np.ndarray | None = None  # the data list that they are of: a subset has another

    def __init__(
        self,
        data_root: str = "",
        pipeline: Sequence[dict | Callable] = (),
        test_mode: bool = False,
        split: str | None = None,
        metainfo: dict | None = None,
        indices: int | Sequence[int] | None = None,
        lazy_init: bool = False,
        device: str | None = None,
    ):
        self.device = device
        self.split = split or ("test" if test_mode else "train")
        if self.split not in ("train", "test"):
            raise DataError(
                f"{type(self).__name__}: there is no split '{split}'; use 'train' or 'test'."
            )
        super().__init__(
            data_root=str(data_root),
            pipeline=pipeline,
            test_mode=test_mode,
            metainfo=metainfo,
            indices=indices,
            lazy_init=lazy_init,
        )

    def set_classes(self, names: Sequence[str]) -> None:
        """Name the classes in the meta information, unless the user has."""
        self._metainfo.setdefault("classes", tuple(names))

    def place(self, info: dict, random: Any = np.random) -> Place:
        """Where the picture of an entry of the data list is, by default the entry itself.

        Args:
            info: The entry.
            random: What to draw from: the global generator, or another ``RandomState``.
        """
        return info

    def read_picture(self, place: Place) -> np.ndarray:
        """The H×W×3 uint8 RGB picture of a place.

        It must be an array of its own, since mmagic's transforms change pictures in place.
        """
        raise NotImplementedError

    def table(self) -> torch.Tensor | None:
        """All pictures, P×C×H×W uint8 on the CPU, or None if they are not so in memory."""
        return None

    @property
    def whole_batches(self) -> bool:
        """Whether batches are made as a whole. The log has why not, if the pictures would do."""
        transforms = [*self.pipeline.transforms]
        if self._judged is None or self._judged[0] != transforms:
            reason = self.table() is not None and reason_against(self)
            self._judged = transforms, self.table() is not None and not reason
            if reason:
                print_log(
                    f"{type(self).__name__}: batches are made picture by picture, since {reason}; "
                    "the pictures are the same, but it takes ten times as long.",
                    "current",
                )
        return self._judged[1]

    @cached_property
    def placed_table(self) -> torch.Tensor:
        """The table, where batches are assembled."""
        table = self.table().contiguous()
        if self.device is not None:
            return table.to(self.device)
        if get_device() != "cuda" or get_worker_info() is not None:
            return table
        return table.to("cuda") if 10 * table.nbytes <= torch.cuda.mem_get_info()[0] else table

    def gather(self, table: torch.Tensor, places: Sequence[Place]) -> torch.Tensor:
        """The pictures of N places, N×3×H×W uint8.

        Args:
            table: What :meth:`table` gave, maybe on another device.
            places: Of the pictures.
        """
        raise NotImplementedError

    def color_place(self, info: dict, random: Any = np.random) -> Place:
        """Where the picture of domain B is that goes with an entry in training."""
        index, others = info["sample_idx"], len(self) - 1
        if others:
            other = random.randint(others)
            index = other + (other >= index)
        return self.place(self.entry(index), random)

    def reference_place(self, info: dict, place: Place) -> Place:
        """Where the picture is that the colours of an entry are compared with in testing."""
        return place

    def pair(self, info: dict, random: Any = np.random) -> tuple[Place, Place]:
        """Where the pictures of domains A and B of an entry are."""
        place = self.place(info, random)
        if self.test_mode:
            return place, self.reference_place(info, place)
        return place, self.color_place(info, random)

    def item(self, index: int) -> dict:
        """The item before the pipeline, as the class describes it."""
        info = self.get_data_info(index)
        gray, color = self.pair(info)
        info["img_gray"] = self.read_picture(gray)
        # Not read twice, nor the same array twice: a transform may change either in place.
        same = color == gray
        info["img_color"] = info["img_gray"].copy() if same else self.read_picture(color)
        info["img_gray_channel_order"] = info["img_color_channel_order"] = "rgb"
        return info

    def prepare_data(self, index: int) -> dict:
        """The item after the pipeline."""
        return self.pipeline(self.item(index))

    def __getitem__(self, index: int | tuple[int, int]) -> dict:
        if not isinstance(index, tuple):
            return super().__getitem__(index)
        index, seed = index
        with seeded(seed):
            return super().__getitem__(index)

    def __getitems__(self, indices: Sequence[int | tuple[int, int]]) -> Items:
        """What torch's loader asks for instead of single items."""
        return Items(self, indices)

    def get_data_info(self, index: int) -> dict:
        """An entry of the data list, with its ``sample_idx``."""
        return super().get_data_info(int(index))

    def keep_entries(self) -> None:
        """Unpack the data list, which mmengine keeps as bytes, so that entries are at hand."""
        self.full_init()
        if self._entries_of is not self.data_address:
            self._entries = [self.get_data_info(index) for index in range(len(self))]
            self._entries_of = self.data_address

    def entry(self, index: int) -> dict:
        """The same as :meth:`get_data_info`, to be read only."""
        if self._entries_of is self.data_address:
            return self._entries[index]
        return self.get_data_info(index)
