"""The paper's figure 5: what every output of the pyramid made of the grey input."""

import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from spynco_mm.utils.files import write_atomically

#: Images are shown at least so many pixels high and wide.
MIN_SIZE = 128
BACKGROUND = 255
INK = (38, 38, 38)
SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


def to_rgb(image: Tensor) -> np.ndarray:
    """C×H×W, BGR, 0 to 255 → H×W×3 bytes, RGB."""
    if not image.is_floating_point():
        image = image.float()
    image = image.detach().clamp(0, 255).round().to(torch.uint8).cpu()
    return image.flip(0).permute(1, 2, 0).numpy()


def _titles(num_outputs: int) -> list[str]:
    if num_outputs == 1:
        return ["grey", "output", "real"]
    outputs = [f"G{i}".translate(SUBSCRIPTS) for i in range(num_outputs, 0, -1)]
    return ["grey", *outputs, "real"]


def pyramid_grid(samples: Sequence[tuple[Tensor, Tensor, Tensor]]) -> np.ndarray:
    """One row per image: grey, G_N, ..., G_1, real; for a model without pyramid grey, output, real.

    Small images are enlarged by a whole factor, pixel by pixel: what one sees is what the network
    made, checkerboards included (section 6.1).

    Args:
        samples: Of one model, as :func:`spynco_mm.evaluation.read_images` gives them: grey input
            (3×H×W), outputs (N×3×H×W, final output first), real image (3×H×W), BGR, 0 to 255.
            Their sizes may differ.

    Returns:
        H×W×3 bytes, RGB.

    Raises:
        ValueError: There is no sample.
    """
    # Here, since only those who draw need it: it is half of what importing this package would take.
    from matplotlib import font_manager

    if not samples:
        raise ValueError("pyramid_grid: there is no sample to show.")
    rows = []
    for gray, outputs, real in samples:
        factor = max(1, math.ceil(MIN_SIZE / min(real.shape[1:])))
        images = [to_rgb(image) for image in (gray, *outputs.flip(0), real)]
        rows.append([image.repeat(factor, axis=0).repeat(factor, axis=1) for image in images])

    titles = _titles(len(rows[0]) - 2)
    cell = max(row[0].shape[1] for row in rows)
    gap = max(4, cell // 32)
    font_size = min(max(14, cell // 9), 24)
    header = 2 * font_size
    height = header + sum(row[0].shape[0] + gap for row in rows)
    width = gap + len(titles) * (cell + gap)
    canvas = Image.new("RGB", (width, height), (BACKGROUND,) * 3)
    draw = ImageDraw.Draw(canvas)
    # Pillow's own font has no subscript figures; matplotlib brings one that does.
    font = ImageFont.truetype(font_manager.findfont("DejaVu Sans"), font_size)
    for column, title in enumerate(titles):
        center = gap + column * (cell + gap) + cell // 2
        draw.text((center, header // 2), title, fill=INK, font=font, anchor="mm")
    top = header
    for row in rows:
        for column, image in enumerate(row):
            left = gap + column * (cell + gap) + (cell - image.shape[1]) // 2
            canvas.paste(Image.fromarray(image), (left, top))
        top += row[0].shape[0] + gap
    return np.asarray(canvas)


def save_png(array: np.ndarray, path: str | Path) -> None:
    """Write a PNG, whole or not at all.

    Args:
        array: H×W×3 bytes, RGB.
        path: The file to write; its folder is made if it is missing.
    """
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, format="PNG")
    write_atomically(path, buffer.getvalue())
