import copy
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from spynco_mm.apis import Colorizer
from spynco_mm.datasets.photographs import photograph_path

BT601 = np.array([0.299, 0.587, 0.114])


def test_only_what_is_asked_for_is_computed(tiny_checkpoint, photo):
    for output, maps in ((1, 1), (2, 2), ("all", 3)):
        colorize = Colorizer(tiny_checkpoint, device="cpu", output=output)
        calls = []
        colorize.generator.mapping.register_forward_hook(lambda *_, c=calls: c.append(1))
        colorize(photo)
        assert len(calls) == maps


def test_the_network_sees_the_working_size(tiny_checkpoint):
    colorize = Colorizer(tiny_checkpoint, device="cpu", working_size=64)
    sizes = []
    colorize.generator.register_forward_hook(lambda m, x, y: sizes.append(tuple(x[0].shape)))
    gray = data.camera()[::2]  # 256×512
    result = colorize(gray)
    assert sizes == [(1, 3, 32, 64)]
    # Its chroma is that of the small picture's result.
    small = Image.fromarray(gray).resize((64, 32), Image.Resampling.BICUBIC)
    small = np.asarray(colorize(small).resize((512, 256), Image.Resampling.BILINEAR)).astype(float)
    smaller = small - (small @ BT601)[..., None]
    difference = abs(result - (result @ BT601)[..., None] - smaller)
    assert np.median(difference) < 1.5
    colorize(gray[:40, :40].copy())
    assert sizes[-1] == (1, 3, 40, 40)  # nothing is enlarged


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (15, 15), (16, 16), (17, 4000), (3, 70)])
def test_any_size(colorize, size):
    picture = np.resize(np.asarray(Image.open(photograph_path("china")))[..., 1], size)
    result = colorize(picture)
    assert result.shape == (*size, 3)
    assert abs(result @ BT601 - picture).max() <= 0.51


def test_a_picture_beyond_memory_is_tiled_with_the_same_result(tiny_checkpoint):
    """As close as the documentation says, to each other and to double precision."""
    whole = Colorizer(tiny_checkpoint, device="cpu", raw=True)
    tiled = Colorizer(tiny_checkpoint, device="cpu", raw=True, memory=1)
    passes = []
    tiled.generator.register_forward_hook(lambda *_, p=passes: p.append(1))
    gray = torch.from_numpy(data.camera()[:372, :376].copy())[None, None] / 255
    results = tiled(gray), whole(gray)
    assert not passes
    tiled(gray[..., :16, :16])
    assert passes  # what is no larger than a network needs at least is not tiled

    exact = copy.deepcopy(whole.generator).double()
    with torch.no_grad():
        (output,) = exact((gray.double() * 2 - 1).expand(-1, 3, -1, -1), num_outputs=1)
    results = *results, (output / 2 + 0.5).clamp(0, 1)
    text = (Path(__file__).parents[2] / "docs" / "colorize.md").read_text()
    stated = re.findall(r"^\| tiles with shared .*\| (\S+) levels.*\| (\S+) levels", text, re.M)
    stated += re.findall(r"^\| untiled .*\| (\S+) levels()", text, re.M)
    pairs = (0, 1), (0, 2), (1, 2)
    for (one, other), figure in zip(pairs, map(float, filter(None, [*stated[0], *stated[1]]))):
        difference = (results[one].double() - results[other].double()).abs().max().item() * 255
        assert 0 < difference <= 2 * figure, (one, other)  # this network's is another
