"""Real photographs that every installation has: those inside scikit-image and scikit-learn."""

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmagic.registry import DATASETS
from PIL import Image

from .base import ColorizationDataset
from .images import DataError, read_image

#: Where each photograph lies inside its package. The files come with the wheels; the loaders of
#: scikit-image are not used, since some of them download.
PHOTOGRAPHS = {
    "astronaut": ("skimage", "data/astronaut.png"),
    "coffee": ("skimage", "data/coffee.png"),
    "chelsea": ("skimage", "data/chelsea.png"),
    "rocket": ("skimage", "data/rocket.jpg"),
    "retina": ("skimage", "data/retina.jpg"),
    "hubble_deep_field": ("skimage", "data/hubble_deep_field.jpg"),
    "immunohistochemistry": ("skimage", "data/ihc.png"),
    "motorcycle": ("skimage", "data/motorcycle_left.png"),
    "china": ("sklearn", "datasets/images/china.jpg"),
    "flower": ("sklearn", "datasets/images/flower.jpg"),
}


def photograph_path(name: str) -> Path:
    """The file of one of the :data:`PHOTOGRAPHS`."""
    if name not in PHOTOGRAPHS:
        raise DataError(
            f"EmbeddedPhotographs: there is no photograph '{name}'; choose from "
            f"{', '.join(PHOTOGRAPHS)}."
        )
    package, file = PHOTOGRAPHS[name]
    spec = importlib.util.find_spec(package)
    if spec is None:
        distribution = {"skimage": "scikit-image", "sklearn": "scikit-learn"}[package]
        raise DataError(
            f"EmbeddedPhotographs: the photograph '{name}' is part of {distribution}, which is not "
            f"installed; pip install {distribution}, or leave the photograph out."
        )
    path = Path(spec.submodule_search_locations[0], file)
    if not path.is_file():
        raise DataError(
            f"EmbeddedPhotographs: this version of {package} does not ship {path}; leave the "
            f"photograph '{name}' out."
        )
    return path


@DATASETS.register_module()
class EmbeddedPhotographs(ColorizationDataset):
    """Crops of ten photographs, for experiments and tests on a computer without any data.

    Each photograph is cut from top to bottom, so that both parts have sky and ground: the left part
    is for training, the right part for testing, and a gap between them is for neither. The parts
    are reduced one by one after the cut, so no pixel of the file goes into both.

    Training items are random crops of the left parts, other ones each time. Test items are a fixed
    grid of crops that do not overlap and cover the right parts as far as they go. ``photo`` in an
    item names its photograph, which is its class as well.

    Args:
        photos: Names out of :data:`PHOTOGRAPHS`; None means all.
        crop_size: Side of the square crops, in pixels after the reduction.
        crops_per_photo: Training items per photograph and epoch.
        short_side: Each photograph is reduced (antialiased) until its shorter side has so many
            pixels, so that a small crop shows something. None keeps the full resolution.
        test_fraction: Width of the right part as a fraction of the photograph's.
        gap: Width of the gap, in pixels of the original photograph.
        **kwargs: As for :class:`ColorizationDataset`.
    """

    def __init__(
        self,
        photos: Sequence[str] | None = None,
        crop_size: int = 32,
        crops_per_photo: int = 100,
        short_side: int | None = 192,
        test_fraction: float = 0.25,
        gap: int = 8,
        pipeline: Sequence[dict | Callable] = (),
        test_mode: bool = False,
        **kwargs,
    ):
        self.photos = tuple(PHOTOGRAPHS if photos is None else photos)
        if not self.photos or crop_size < 1 or crops_per_photo < 1 or gap < 0:
            raise DataError(
                "EmbeddedPhotographs: it takes at least one photograph, a crop_size and a "
                "crops_per_photo of at least 1 and a gap of at least 0, not "
                f"photos={list(self.photos)}, crop_size={crop_size}, "
                f"crops_per_photo={crops_per_photo}, gap={gap}."
            )
        if not 0 < test_fraction < 1:
            raise DataError(
                f"EmbeddedPhotographs: test_fraction lies between 0 and 1, not at {test_fraction}."
            )
        self.crop_size = crop_size
        self.crops_per_photo = crops_per_photo
        self.short_side = short_side
        self.test_fraction = test_fraction
        self.gap = gap
        self.regions: list[np.ndarray] = []
        super().__init__(pipeline=pipeline, test_mode=test_mode, **kwargs)

    def columns(self, width: int) -> tuple[int, int]:
        """First and last-plus-one column of this split's part of a photograph of that width."""
        cut = width - round(width * self.test_fraction)
        return (cut, width) if self.split == "test" else (0, max(cut - self.gap, 0))

    def _region(self, name: str, path: Path) -> np.ndarray:
        """This split's part of a photograph, reduced: H×W×3 uint8."""
        photo = read_image(path)
        left, right = self.columns(photo.shape[1])
        region = photo[:, left:right]
        scale = 1.0 if self.short_side is None else self.short_side / min(photo.shape[:2])
        height, width = (round(side * scale) for side in region.shape[:2])
        if scale > 1 or min(height, width) < self.crop_size:
            raise DataError(
                f"EmbeddedPhotographs: the {self.split} part of '{name}' has {region.shape[1]}×"
                f"{region.shape[0]} pixels, and {width}×{height} at short_side={self.short_side}, "
                f"which does not give crops of {self.crop_size}; change short_side, crop_size or "
                "test_fraction."
            )
        resized = Image.fromarray(region).resize((width, height), Image.Resampling.BICUBIC)
        return np.asarray(resized)

    def load_data_list(self) -> list[dict]:
        """One entry per crop; a test crop's entry has its corner."""
        self.set_classes(self.photos)
        entries = []
        for label, name in enumerate(self.photos):
            path = photograph_path(name)
            region = self._region(name, path)
            self.regions.append(region)
            entry = dict(img_path=str(path), photo=name, gt_label=label)
            if self.split == "test":
                # Spread the grid's remainder to both sides.
                tops, lefts = (
                    range(side % self.crop_size // 2, side - self.crop_size + 1, self.crop_size)
                    for side in region.shape[:2]
                )
                entries += [dict(entry, corner=(top, left)) for top in tops for left in lefts]
            else:
                entries += [entry] * self.crops_per_photo
        return entries

    def place(self, info: dict, random: Any = np.random) -> tuple[int, int, int]:
        """Photograph, top and left of a crop: at its corner if it has one, else at a random one."""
        label = info["gt_label"]
        top, left = info.get("corner") or (
            random.randint(side - self.crop_size + 1) for side in self.regions[label].shape[:2]
        )
        return label, top, left

    def read_picture(self, place: tuple[int, int, int]) -> np.ndarray:
        """A copy of a crop."""
        (label, top, left), size = place, self.crop_size
        return self.regions[label][top : top + size, left : left + size].copy()

    def table(self) -> torch.Tensor:
        """All regions, with zeros beyond the smaller ones."""
        height, width = (max(region.shape[i] for region in self.regions) for i in range(2))
        table = torch.zeros(len(self.regions), 3, height, width, dtype=torch.uint8)
        for padded, region in zip(table, self.regions):
            height, width = region.shape[:2]
            padded[:, :height, :width] = torch.tensor(region).permute(2, 0, 1)
        return table

    def gather(self, table: torch.Tensor, places: Sequence[tuple[int, int, int]]) -> torch.Tensor:
        """The crops of some places."""
        places = torch.tensor(places).to(table.device, non_blocking=True)
        label, top, left = places.T[..., None, None]  # each [N, 1, 1]
        side = torch.arange(self.crop_size, device=table.device)
        # The indexed dimensions come first: [N, size, size, 3]
        return table[label, :, top + side[:, None], left + side].permute(0, 3, 1, 2).contiguous()
