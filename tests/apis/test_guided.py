import numpy as np
import pytest
import torch
import torch.nn.functional as F
from skimage import data

from spynco_mm.apis import Projection
from spynco_mm.apis.guided import guided_resize
from spynco_mm.evaluation import ciede2000, rgb_to_lab
from spynco_mm.models import HandcraftedTranslation

H_T = HandcraftedTranslation()
PROJECTION = Projection(H_T)


def error(color, factor, resize):
    """CIEDE2000 of a picture whose chroma was reduced and enlarged again."""
    size = [side // factor for side in color.shape[2:]]
    small = F.interpolate(color, size, mode="bicubic", antialias=True).clamp(0, 255)
    gray = H_T(color)
    result = PROJECTION.values(resize(PROJECTION.chroma(small), gray), gray)
    torch.testing.assert_close(H_T(result), gray, rtol=0, atol=1e-3)
    return float(ciede2000(rgb_to_lab(result.clamp(0, 255)), rgb_to_lab(color)))


def bilinear(chroma, gray):
    return F.interpolate(chroma, gray.shape[2:], mode="bilinear")


@pytest.mark.parametrize("factor", [2, 4])
def test_a_photograph(factor):
    color = torch.from_numpy(data.coffee()[:200, :296].copy()).permute(2, 0, 1)[None].float()
    assert error(color, factor, guided_resize) < 0.96 * error(color, factor, bilinear)


def test_no_bleeding_over_a_sharp_edge():
    color = torch.empty(1, 3, 64, 64)
    color[..., :28], color[..., 28:] = (
        torch.tensor(c).view(3, 1, 1) for c in ([180.0, 40, 40], [150.0, 190, 250])
    )
    assert error(color, 8, guided_resize) < 0.6 * error(color, 8, bilinear)


def test_grey_draws_nothing_on_one_colour():
    gray = torch.from_numpy(np.random.default_rng(0).uniform(0, 255, (1, 1, 60, 80))).float()
    chroma = torch.tensor([30.0, -10, 20]).view(1, 3, 1, 1)
    result = guided_resize(chroma.expand(-1, -1, 15, 20), gray)
    torch.testing.assert_close(result, chroma.expand_as(result), rtol=0, atol=1e-3)
    small = torch.rand(1, 3, 60, 80)
    assert guided_resize(small, gray) is small
    assert guided_resize(small, gray[..., :30, :40]).shape == (1, 3, 30, 40)
