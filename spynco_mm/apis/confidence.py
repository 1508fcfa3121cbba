"""How sure the pyramid is: where G_1, G_2, ... disagree about the chroma."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL.Image import Image

from spynco_mm.datasets.picture import BAND
from spynco_mm.evaluation import rgb_to_lab

#: Levels of a picture of the disagreement for a difference of 1 in CIELAB: white is 51 or more.
LEVELS = 5


def disagreement(outputs: Sequence[np.ndarray | Image]) -> np.ndarray:
    r"""The spread of the outputs' chroma at every pixel, in CIELAB's :math:`\Delta E^*_{ab}`.

    .. math:: \sqrt{\tfrac1N \sum_i |c_i - \bar c|^2}, \quad c_i = (a^*, b^*) \text{ of } G_i

    Lightness is left out: projected outputs have the same grey, and so hardly differ in it. 0 where
    all outputs agree; about 2 is just noticeable.

    Args:
        outputs: H×W×3 RGB of each, uint8 or uint16, or images of Pillow; two at least.

    Returns:
        H×W float32.

    Raises:
        ValueError: They are fewer, or no RGB pictures.
    """
    outputs = [np.asarray(output) for output in outputs]
    if len(outputs) < 2 or any(output.shape[2:] != (3,) for output in outputs):
        raise ValueError(
            "disagreement: at least two outputs H×W×3 are compared, got "
            f"{', '.join('×'.join(map(str, output.shape)) for output in outputs) or 'none'}."
        )
    spread = np.empty(outputs[0].shape[:2], np.float32)
    for top in range(0, len(spread), BAND):
        rows = slice(top, top + BAND)
        rgb = np.stack([output[rows] for output in outputs])
        rgb = torch.from_numpy(rgb.astype(np.float32) * (255 / np.iinfo(rgb.dtype).max))
        lab = rgb_to_lab(rgb.permute(0, 3, 1, 2))
        spread[rows] = lab[:, 1:].var(0, correction=0).sum(0).sqrt().numpy()
    return spread


def disagreement_picture(spread: np.ndarray) -> np.ndarray:
    """H×W bytes, :data:`LEVELS` a unit: black where the outputs agree, the brighter the less."""
    return np.round(np.minimum(spread * LEVELS, 255)).astype(np.uint8)
