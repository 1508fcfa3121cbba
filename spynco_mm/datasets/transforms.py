"""Transforms that mmagic lacks; flips, crops and packing are mmagic's own."""

from collections.abc import Sequence

import numpy as np
import torch
from mmagic.registry import TRANSFORMS
from mmcv.transforms import BaseTransform

from spynco_mm.models.translations import HandcraftedTranslation

from .images import read_image


@TRANSFORMS.register_module(name="HandcraftedTranslation")
class HandcraftedTranslationTransform(BaseTransform):
    """Make pictures of domain A out of colour pictures, with the model's own H_t (section 3.1).

    Takes ``results[key]`` as H×W×C, uint8 or float, in the order
    ``results[f'{key}_channel_order']`` (``'rgb'`` or ``'bgr'``), and leaves H×W×``replicate``
    float32 in the same range, not rounded. The numbers are those of
    ``spynco_mm.models.HandcraftedTranslation``, bit by bit.

    Args:
        keys: The pictures to translate.
        weights: As for ``spynco_mm.models.HandcraftedTranslation``.
        replicate: Copies of a one-channel result, 3 for networks that take three channels. 1 leaves
            the translation's channels as they are.
    """

    def __init__(
        self,
        keys: Sequence[str] = ("img_gray",),
        weights: str | Sequence = "bt601",
        replicate: int = 3,
    ):
        self.keys = (keys,) if isinstance(keys, str) else tuple(keys)
        self.translation = HandcraftedTranslation(weights)
        if replicate < 1 or (replicate > 1 and self.translation.out_channels > 1):
            raise ValueError(
                f"HandcraftedTranslation: replicate={replicate} does not fit a translation to "
                f"{self.translation.out_channels} channel(s); use 1, or a larger number with one "
                "channel."
            )
        self.weights = weights
        self.replicate = replicate

    @torch.no_grad()
    def translate(self, images: torch.Tensor) -> torch.Tensor:
        """N×``replicate``×H×W float32 of N×C×H×W RGB images, on their device."""
        if self.translation.weight.device != images.device:
            self.translation.to(images.device)
        gray = self.translation(images.float())
        return gray if self.replicate == 1 else gray.expand(-1, self.replicate, -1, -1).contiguous()

    def transform(self, results: dict) -> dict:
        """Translate ``results[key]`` for every key."""
        for key in self.keys:
            image = results[key]
            order = str(results.get(f"{key}_channel_order")).lower()
            if order not in ("rgb", "bgr"):
                raise ValueError(
                    f"HandcraftedTranslation: results['{key}_channel_order'] is '{order}', but "
                    "red, green and blue weigh differently; set it to 'rgb' or 'bgr' where the "
                    "picture is loaded."
                )
            if image.ndim != 3:
                raise ValueError(
                    f"HandcraftedTranslation: results['{key}'] has the shape {image.shape}, not "
                    "(height, width, channels); load it as a colour picture."
                )
            if order == "bgr":
                image = image[..., ::-1]
            # [H, W, C] -> [1, C, H, W]
            tensor = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1), np.float32))
            gray = self.translate(tensor[None])[0].permute(1, 2, 0).numpy()
            results[key] = np.ascontiguousarray(gray)
            results[f"{key}_channel_order"] = "single" if gray.shape[2] == 1 else "rgb"
        return results

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(keys={self.keys}, weights={self.weights!r}, "
            f"replicate={self.replicate})"
        )


@TRANSFORMS.register_module()
class LoadImage(BaseTransform):
    """Read a picture of any kind as H×W×3 uint8 RGB, where mmagic's loader would fail or clip.

    Reads the file ``results[f'{key}_path']``, as mmagic's ``TranslationInferencer`` names it
    (``pair_path``, ``img_A_path``, ``img_B_path``), into ``results[out_key]``, and sets
    ``results[f'{out_key}_channel_order']``.

    Args:
        key: Name of the source.
        out_key: Name of the picture.
    """

    def __init__(self, key: str = "img_A", out_key: str = "img_gray"):
        self.key = key
        self.out_key = out_key

    def transform(self, results: dict) -> dict:
        """Read the picture."""
        results[self.out_key] = read_image(results[f"{self.key}_path"])
        results[f"{self.out_key}_channel_order"] = "rgb"
        return results

    def __repr__(self) -> str:
        return f"{type(self).__name__}(key='{self.key}', out_key='{self.out_key}')"
