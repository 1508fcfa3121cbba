"""A data set out of what a model made of another one."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmagic.registry import METRICS
from mmengine.evaluator import BaseMetric
from PIL import Image


@METRICS.register_module()
class ColorizedSetWriter(BaseMetric):
    """Writes images of an evaluation as PNG, in a folder for each class.

    The result is ``<folder>/<class>/<number>.png``, which ``FolderColorization`` reads with
    ``class_folders=True``. Values are rounded to 8 bits.

    Args:
        folders: Where to write each of the images of a sample (``fake_color``, ``img_color``,
            ``img_gray``), by its name.
    """

    default_prefix = ""  # No prefix, and no warning about it.

    def __init__(self, folders: dict[str, str]):
        super().__init__()
        self.folders = folders

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Write a batch."""
        for sample in data_samples:
            name = self.dataset_meta["classes"][sample["gt_label"]["label"].item()]
            for key, folder in self.folders.items():
                image = sample[key].clamp(0, 255).round().to(torch.uint8).cpu()  # [3, H, W], BGR
                file = Path(folder, name, f"{sample['sample_idx']:06d}.png")
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(image.flip(0).permute(1, 2, 0).numpy()).save(file)
            self.results.append(len(self.folders))

    def compute_metrics(self, results: list) -> dict:
        """How many images were written."""
        return {"images": sum(results)}
