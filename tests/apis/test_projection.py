import numpy as np
import pytest
import torch

from spynco_mm.apis import Picture, Projection, project_picture
from spynco_mm.apis.projection import grey_error
from spynco_mm.datasets.images import DataError
from spynco_mm.models import HandcraftedTranslation

GRAY_WEIGHTS = {
    "bt601": [0.299, 0.587, 0.114],
    "bt709": [0.2126, 0.7152, 0.0722],
    "mean": [1 / 3] * 3,
}


def levels(dtype, shape, seed=0):
    most = np.iinfo(dtype).max
    values = np.random.default_rng(seed).integers(0, most, shape, dtype, endpoint=True)
    values[:4] = [[0], [1], [most - 1], [most]] if values.ndim == 2 else 0
    values[4:8, ..., -1] = most
    return values


@pytest.mark.parametrize("weights", GRAY_WEIGHTS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("saturation", [0, 1, 5])
def test_the_grey_is_exact_in_whole_levels(weights, dtype, saturation):
    """For colours of any strength on greys down to black and up to white."""
    gray, color = levels(dtype, (64, 64)), levels(dtype, (64, 64, 3))
    projection = Projection(HandcraftedTranslation(weights), saturation)
    picture = project_picture(Picture(gray), Picture(color), projection)
    assert picture.pixels.dtype == dtype
    grey = picture.pixels @ np.array(GRAY_WEIGHTS[weights])
    np.testing.assert_array_equal(np.round(grey), gray)
    most = max(GRAY_WEIGHTS[weights])
    assert abs(grey - gray).max() <= max(most, 1 - most) / 2 + (
        0.001 if dtype == np.uint8 else 0.02
    )
    error = grey_error(picture.pixels, gray * (255 / np.iinfo(dtype).max), projection.translation)
    assert error == pytest.approx(abs(grey - gray).max() * 255 / np.iinfo(dtype).max, abs=2e-4)
    chroma = picture.pixels.max(2).astype(int) - picture.pixels.min(2)
    assert (chroma.mean() > np.iinfo(dtype).max / 8) == (saturation > 0)


def test_the_largest_chroma_that_fits():
    projection = Projection(HandcraftedTranslation(), 5)
    gray, color = torch.full((1, 1, 1, 1), 200.0), torch.tensor([80.0, 60, 30]).view(1, 3, 1, 1)
    result = projection.values(color, gray).flatten().numpy()
    chroma = color.flatten().numpy() - color.flatten().numpy() @ GRAY_WEIGHTS["bt601"]
    np.testing.assert_allclose(result, 200 + chroma * 55 / chroma.max(), atol=1e-3)


def test_somebody_elses_colouring_of_another_size():
    gray = Picture(levels(np.uint16, (40, 60)), alpha=levels(np.uint16, (40, 60), 1), note="a note")
    color = Picture(levels(np.uint8, (20, 30, 3)))
    projection = Projection(HandcraftedTranslation())
    picture = project_picture(gray, color, projection)
    assert picture.pixels.shape == (40, 60, 3) and picture.pixels.dtype == np.uint16
    assert picture.alpha is gray.alpha and picture.note == "a note"
    np.testing.assert_array_equal(np.round(picture.pixels @ GRAY_WEIGHTS["bt601"]), gray.pixels)
    # What a colouring lacks is not invented.
    colourless = project_picture(gray, Picture(levels(np.uint8, (20, 30))), projection)
    np.testing.assert_array_equal(colourless.pixels, np.repeat(gray.pixels[..., None], 3, 2))
    with pytest.raises(DataError, match=r"a colouring of 30×30 pixels cannot belong to .* 60×40"):
        project_picture(gray, Picture(levels(np.uint8, (30, 30, 3))), projection)
