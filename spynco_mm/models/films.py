"""What a film or sensor makes of red, green and blue: H_t from spectral sensitivities."""

from collections.abc import Mapping

import numpy as np

#: Wavelength in nm; daylight (CIE D65, relative power); and the reflectances of which sRGB's linear
#: red, green and blue are the coefficients, which sum to 1 (Mallett and Yuksel 2019, "Spectral
#: Primary Decomposition for Rendering with sRGB Reflectance", every other of their samples).
SPECTRA = np.array([
    380, 50.0, 0.327, 0.332, 0.341, 390, 54.6, 0.313, 0.328, 0.359,
    400, 82.8, 0.239, 0.294, 0.466, 410, 91.5, 0.122, 0.189, 0.689,
    420, 93.4, 0.044, 0.079, 0.877, 430, 86.7, 0.022, 0.042, 0.935,
    440, 104.9, 0.014, 0.030, 0.956, 450, 117.0, 0.012, 0.031, 0.957,
    460, 117.8, 0.011, 0.035, 0.954, 470, 114.9, 0.011, 0.041, 0.949,
    480, 115.9, 0.011, 0.081, 0.908, 490, 108.8, 0.011, 0.380, 0.609,
    500, 109.4, 0.009, 0.876, 0.115, 510, 107.8, 0.007, 0.941, 0.053,
    520, 104.8, 0.006, 0.962, 0.033, 530, 107.7, 0.005, 0.971, 0.024,
    540, 104.4, 0.005, 0.973, 0.021, 550, 104.0, 0.006, 0.973, 0.020,
    560, 100.0, 0.009, 0.973, 0.018, 570, 96.3, 0.014, 0.971, 0.015,
    580, 95.8, 0.032, 0.955, 0.013, 590, 88.7, 0.624, 0.364, 0.011,
    600, 90.0, 0.949, 0.041, 0.010, 610, 89.6, 0.958, 0.032, 0.010,
    620, 87.7, 0.956, 0.033, 0.012, 630, 83.3, 0.954, 0.032, 0.014,
    640, 83.7, 0.939, 0.041, 0.020, 650, 80.0, 0.905, 0.063, 0.032,
    660, 80.2, 0.848, 0.100, 0.053, 670, 82.3, 0.753, 0.158, 0.090,
    680, 78.3, 0.619, 0.231, 0.150, 690, 69.7, 0.473, 0.296, 0.231,
    700, 71.6, 0.405, 0.318, 0.277, 710, 74.3, 0.371, 0.326, 0.303,
    720, 61.6, 0.349, 0.331, 0.320, 730, 69.9, 0.342, 0.332, 0.326,
    740, 75.1, 0.337, 0.333, 0.330, 750, 63.6, 0.335, 0.333, 0.332,
    760, 46.4, 0.334, 0.333, 0.333, 770, 66.8, 0.334, 0.333, 0.333,
    780, 63.4, 0.334, 0.333, 0.333,
]).reshape(-1, 5)  # fmt: skip

#: The longest wavelength, in nm, that an emulsion is taken to see, and all shorter ones as well as
#: that. Silver halide alone sees blue; "ortho" films are insensitive beyond some 590 nm (Langford,
#: Basic Photography, ch. 9); most panchromatic ones end between 650 and 680 nm.
FILMS = {"blue_sensitive": 500, "orthochromatic": 590, "panchromatic": 660}
#: The shortest wavelength, in nm, that passes a filter in front of the lens: about where half of
#: the light passes Wratten 8, 21 and 25.
FILTERS = {"yellow": 480, "orange": 550, "red": 600}


def spectral_weights(
    sensitivity: Mapping[float, float], transmission: Mapping[float, float] | None = None
) -> "tuple[float, float, float]":
    r"""Grey weights of red, green and blue for a film or sensor in daylight.

    .. math:: w_c = \int S T L \rho_c \,/ \int S T L

    with the sensitivity S, a filter's transmission T, daylight L and the reflectances
    :math:`\rho_c` of the sRGB primaries, :data:`SPECTRA`. They sum to 1, so white is white.

    An approximation, in that a film sees linear light, while H_t weighs the coded values of
    pictures, as luma does for luminance; and no film's tone curve is in it.

    Args:
        sensitivity: S by wavelength in nm, linear (a data sheet's is logarithmic), in any unit per
            energy of light. Interpolated linearly, and 0 outside.
        transmission: T likewise, the filter's; None for no filter.

    Raises:
        ValueError: They are negative, or nothing in 380 to 780 nm is seen.
    """
    nm = np.arange(SPECTRA[0, 0], SPECTRA[-1, 0] + 1)
    light, *primaries = (np.interp(nm, SPECTRA[:, 0], column) for column in SPECTRA[:, 1:].T)
    for curve in (sensitivity, *([transmission] if transmission is not None else [])):
        points = sorted(curve)
        values = [curve[point] for point in points]
        if not points or not np.isfinite(values).all() or min(values) < 0:
            raise ValueError(
                "spectral_weights: a curve has values from 0 on by wavelength in nm, got "
                f"{dict(curve)}."
            )
        light = light * np.interp(nm, points, values, left=0, right=0)
    if not light.sum():
        raise ValueError(
            "spectral_weights: the film or sensor sees nothing from 380 to 780 nm in this light; "
            "change its sensitivity or the filter."
        )
    seen = np.array([(light * primary).sum() for primary in primaries])
    return tuple((seen / seen.sum()).tolist())


def film_weights(name: str) -> "tuple[float, float, float]":
    """The weights of a film of :data:`FILMS`, as ``"orthochromatic"`` or ``"panchromatic+red"``.

    Raises:
        ValueError: There is no such film or filter, or the one sees nothing through the other.
    """
    film, *filters = name.split("+")
    if film not in FILMS or not set(filters) <= set(FILTERS) or len(filters) > 1:
        raise ValueError(
            f"there is no film '{name}'; there are {', '.join(FILMS)}, each with +"
            f"{', +'.join(FILTERS)} or without."
        )
    first, last = FILTERS[filters[0]] if filters else 380, FILMS[film]
    if first >= last:
        raise ValueError(f"{film} film sees nothing through a {filters[0]} filter; name another.")
    return spectral_weights({first: 1, last: 1})
