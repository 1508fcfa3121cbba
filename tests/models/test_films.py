"""Weights from spectra, against numbers that others have published."""

import numpy as np
import pytest

from spynco_mm.models import HandcraftedTranslation, spectral_weights

#: CIE 1924, every 10 nm from 400 nm on.
EYE = (
    0.0004, 0.0012, 0.0040, 0.0116, 0.023, 0.038, 0.060, 0.091, 0.139, 0.208, 0.323, 0.503, 0.710,
    0.862, 0.954, 0.995, 0.995, 0.952, 0.870, 0.757, 0.631, 0.503, 0.381, 0.265, 0.175, 0.107,
    0.061, 0.032, 0.017, 0.0082, 0.0041,
)  # fmt: skip


def test_the_eye_is_a_sensor_whose_weights_are_published():
    """What sRGB's primaries have of luminance, by BT.709; steps of 10 nm cost the last digits."""
    weights = spectral_weights(dict(zip(range(400, 701, 10), EYE)))
    np.testing.assert_allclose(weights, [0.2126, 0.7152, 0.0722], atol=0.01)


def test_one_wavelength_and_a_filter():
    line = spectral_weights({549: 0, 550: 1, 551: 0})
    np.testing.assert_allclose(line, [0.006, 0.973, 0.020], atol=0.001)
    # Ideal pass bands: the same by the film as by the filter.
    whole, half = {380: 1, 780: 1}, {600: 2, 660: 2}
    assert spectral_weights(whole, half) == pytest.approx(spectral_weights(half), abs=1e-12)


def test_films():
    def of(name):
        return HandcraftedTranslation(name).weight[0].tolist()

    for name in ("blue_sensitive", "orthochromatic", "panchromatic", "panchromatic+red"):
        assert sum(of(name)) == pytest.approx(1, abs=1e-6)
    assert of("blue_sensitive")[2] > 0.7
    assert of("orthochromatic")[0] < 0.06 < of("panchromatic")[0]
    reds = [of(f"panchromatic{f}")[0] for f in ("", "+yellow", "+orange", "+red")]
    assert reds == sorted(reds) and reds[-1] > 0.9
    assert of("orthochromatic+yellow")[2] < of("orthochromatic")[2] / 3


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: HandcraftedTranslation("panchromatic+pink"), "no film 'panchromatic.pink'; there"),
        (lambda: HandcraftedTranslation("orthochromatic+red"), "sees nothing through a red filter"),
        (lambda: spectral_weights({500: -1, 600: 1}), "values from 0 on by wavelength"),
        (lambda: spectral_weights({}), "values from 0 on by wavelength"),
        (lambda: spectral_weights({900: 1, 1000: 1}), "sees nothing from 380 to 780 nm"),
    ],
)
def test_what_sees_nothing(make, words):
    with pytest.raises(ValueError, match=words):
        make()
