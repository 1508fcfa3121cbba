import numpy as np
import pytest
from PIL import Image
from skimage.color import rgb2lab

from spynco_mm.apis import Colorizer, disagreement
from spynco_mm.apis.confidence import disagreement_picture


def test_the_spread_of_a_and_b(photo):
    photo = photo.copy()
    photo[:5] = [255, 0, 0]
    np.testing.assert_array_equal(disagreement([photo] * 3), 0)
    other = photo[..., ::-1].copy()
    lab = np.stack([rgb2lab(photo), rgb2lab(other), rgb2lab(photo)])[..., 1:]
    want = np.sqrt(np.square(lab - lab.mean(0)).mean(0).sum(-1))
    found = disagreement([photo, other, photo])
    np.testing.assert_allclose(found, want, atol=2e-3)
    assert want.max() > 51 > want.min()
    shown = disagreement_picture(found)
    assert shown.max() == 255 and abs(shown[want < 51] - 5.0 * want[want < 51]).max() <= 0.52
    deep = [p.astype(np.uint16) * 257 for p in (photo, other, photo)]
    np.testing.assert_allclose(disagreement(deep), found, atol=1e-3)
    for few in ([photo], [photo[..., 0]] * 2):
        with pytest.raises(ValueError, match="at least two outputs H×W×3 are compared"):
            disagreement(few)


def test_of_a_pyramid(tiny_checkpoint, photo):
    outputs = Colorizer(tiny_checkpoint, device="cpu", output="all")(photo)
    assert disagreement(outputs).mean() > 0.5
    images = [Image.fromarray(output) for output in outputs]  # as of a file
    assert np.array_equal(disagreement(images), disagreement(outputs))
