"""What all colorization data sets share: unpaired in training, paired in testing, reproducible."""

from collections.abc import Callable, Sequence

import numpy as np
from mmengine.dataset import BaseDataset

from .images import DataError
from .samplers import seeded


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

    A sub-class gives ``load_data_list`` (a dict with ``img_path`` and maybe ``gt_label`` per
    picture) and ``read_picture``.

    Args:
        data_root: Folder of the data.
        pipeline: Transforms, as configs or callables.
        test_mode: Paired and without any draw, instead of unpaired.
        split: ``'train'`` or ``'test'``, the pictures to use. None means ``'test'`` in test mode
            and ``'train'`` otherwise; naming it gives, say, the training pictures in test mode.
        metainfo: Overrides the meta information, such as ``classes``.
        indices: Use only the first so many pictures, or the pictures of these indices.
        lazy_init: Do not read anything until it is needed.
    """

    def __init__(
        self,
        data_root: str = "",
        pipeline: Sequence[dict | Callable] = (),
        test_mode: bool = False,
        split: str | None = None,
        metainfo: dict | None = None,
        indices: int | Sequence[int] | None = None,
        lazy_init: bool = False,
    ):
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

    def read_picture(self, info: dict) -> np.ndarray:
        """The H×W×3 uint8 RGB picture of an entry of the data list.

        It must be an array of its own, since mmagic's transforms change pictures in place.
        """
        raise NotImplementedError

    def draw_color(self, info: dict) -> np.ndarray:
        """The H×W×3 uint8 RGB picture of domain B that goes with an entry in training."""
        index = info["sample_idx"]
        if len(self) > 1:
            other = np.random.randint(len(self) - 1)
            index = other + (other >= index)
        return self.read_picture(self.get_data_info(index))

    def reference(self, info: dict) -> np.ndarray:
        """The H×W×3 uint8 RGB picture that the colours of an entry are compared with in testing."""
        # A copy, not the same array twice: a transform may change either in place.
        return info["img_gray"].copy()

    def item(self, index: int) -> dict:
        """The item before the pipeline, as the class describes it."""
        info = self.get_data_info(index)
        info["img_gray"] = self.read_picture(info)
        info["img_color"] = self.reference(info) if self.test_mode else self.draw_color(info)
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

    def get_data_info(self, index: int) -> dict:
        """An entry of the data list, with its ``sample_idx``."""
        return super().get_data_info(int(index))
