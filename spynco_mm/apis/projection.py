"""The picture of a given grey that is nearest to a colouring: exact, in range, in whole levels."""

import copy
from collections.abc import Sequence

import numpy as np
import torch
from scipy.linalg import qr
from torch import Tensor

from spynco_mm.datasets.images import DataError
from spynco_mm.datasets.picture import BAND
from spynco_mm.models import ExactConsistency, HandcraftedTranslation

from .guided import guided_resize
from .hints import Hints, Layer, hint_layer
from .pictures import Picture


def to_gray(pixels: np.ndarray, translation: HandcraftedTranslation) -> np.ndarray:
    """The picture of domain A that pixels are, or are translated to.

    Args:
        pixels: uint8 or uint16: H×W grey ones, which stand for all C_A channels, H×W×C_A with
            several channels in A, or H×W×C_B, whose H_t it is.
        translation: H_t.

    Returns:
        float32 in [0, 255], H×W, or H×W×C_A where A has several channels.

    Raises:
        DataError: The pixels have another number of channels.
    """
    scale = 255 / np.iinfo(pixels.dtype).max
    channels, wanted = pixels.shape[2:], translation.out_channels
    if channels not in ((), (wanted,), (translation.in_channels,)):
        raise DataError(
            f"the picture has {channels[0]} channels, but H_t translates {translation.in_channels} "
            f"to {wanted}; give one of {wanted} or of {translation.in_channels}."
        )
    gray = np.empty((*pixels.shape[:2], *([wanted] if wanted > 1 else [])), np.float32)
    for top in range(0, len(gray), BAND):
        band = pixels[top : top + BAND].astype(np.float32)
        if channels == (translation.in_channels,):
            band = translation(torch.from_numpy(band).permute(2, 0, 1)[None])[0].numpy()
            band = band[0] if wanted == 1 else band.transpose(1, 2, 0)
        elif channels == () and wanted > 1:
            band = band[..., None]
        gray[top : top + BAND] = band * scale
    return gray


def as_planes(grays: np.ndarray) -> Tensor:
    """N×H×W or N×H×W×C_A, as :func:`to_gray` gives them, as N×C_A×H×W."""
    grays = torch.from_numpy(grays)
    return grays[:, None] if grays.ndim == 3 else grays.permute(0, 3, 1, 2)


def quantize(values: Tensor, dtype: np.dtype) -> np.ndarray:
    """N×C×H×W in [0, 255] to N×H×W×C of a type, uint8, uint16, or float32 in [0, 1]."""
    if dtype == np.float32:
        return (values / 255).clamp(0, 1).permute(0, 2, 3, 1).numpy()
    most = np.iinfo(dtype).max
    values = (values * (most / 255)).round_().clamp_(0, most)
    return values.permute(0, 2, 3, 1).numpy().astype(dtype)


class Projection:
    """Replaces the grey of a colouring O by the given grey I, whoever made O.

    The chroma of O, what H_t does not see, is multiplied by the saturation s and kept,
    :math:`O' = H_t^+ I + s (1 - H_t^+ H_t) O`, as by
    :class:`~spynco_mm.models.ExactConsistency`; where a pixel would leave the range it gets the
    largest part of its chroma that fits, so that no clamping touches the grey. In whole levels the
    channel with the largest weight takes what the rounding of the others has moved, hence
    |H_t(O') − I| is at most half a level times that weight w, or times 1 − w where that channel is
    at an end of its range: 0.29 levels for BT.601 and less than a half for all usual weights, so
    that H_t(O') rounds to I. With 16 bits, float32 adds a hundredth of a level.

    With C_A channels in A it is C_A channels of B that take it, those whose part of H_t is the best
    to invert, and the bound is half a level times the sum of a row of that part. H_t⁺ I may then be
    out of range itself; such a pixel is clamped, which no colour of that I would avoid for sure.

    Args:
        translation: H_t, from C_B channels to fewer, C_A; from three to one for pictures.
        saturation: s; 0 gives grey, 1 keeps the chroma.

    Raises:
        ValueError: The saturation is negative or not finite.
    """

    #: What hints paint; None for nothing.
    layer: Layer | None = None

    def __init__(self, translation: HandcraftedTranslation, saturation: float = 1.0):
        if not 0 <= saturation < float("inf"):
            raise ValueError(f"saturation is a number from 0 on, got {saturation}.")
        self.translation = translation
        self.saturation = saturation
        self._project = ExactConsistency(translation, out_of_range="compress")
        h = translation.weight.double()
        #: H_t of a picture that is 1 everywhere, where [-1, 1] stands for [0, 255].
        self._white = h.sum(1).float().view(-1, 1, 1)
        *_, pivots = qr(h.numpy(), mode="economic", pivoting=True)
        self._main = pivots[: len(h)].tolist()
        self._share = torch.linalg.inv(h[:, self._main]).float()

    def resized(self, color: Tensor, gray: Tensor) -> Tensor:
        """The chroma of N×C_B×h×w colours for a grey picture N×C_A×H×W, along its edges."""
        if color.shape[2:] == gray.shape[2:]:
            return color
        return guided_resize(self.chroma(color), gray)

    def chroma(self, color: Tensor) -> Tensor:
        """What H_t does not see of N×C_B×H×W colours, in their unit."""
        return self._project.null(color)

    def painted(self, layer: Layer | None) -> "Projection":
        """The same, with the colours of hints over those that it is given."""
        other = copy.copy(self)
        other.layer = layer
        return other

    def values(
        self,
        color: Tensor,
        gray: Tensor,
        corner: Sequence[int] = (0, 0),
        saturation: float | None = None,
    ) -> Tensor:
        """O' of N×C_B×H×W and I of N×C_A×H×W, in [0, 255] as all of them, not rounded.

        Args:
            color: O.
            gray: I.
            corner: First row and column of them in the picture, for its hints.
            saturation: Instead of the projection's; that of hints is always 1.
        """
        # The chroma is linear in O.
        chroma = (color / 127.5 - 1) * (self.saturation if saturation is None else saturation)
        if self.layer is not None:
            rows, columns = (slice(c, c + n) for c, n in zip(corner, color.shape[2:]))
            layer = self.layer.values[:, :, rows, columns]
            chroma = chroma * (1 - layer[:, :1]) + layer[:, 1:] / 127.5
        return (self._project(chroma, gray / 127.5 - self._white) + 1) * 127.5

    def __call__(
        self, color: Tensor, gray: Tensor, dtype: np.dtype, corner: Sequence[int] = (0, 0)
    ) -> np.ndarray:
        """N×C_B×H×W colours and N×C_A×H×W grey, in [0, 255], to N×H×W×C_B of a type."""
        result = np.empty((len(color), *color.shape[2:], color.shape[1]), dtype)
        for top in range(0, color.shape[2], BAND):
            rows = slice(top, top + BAND)
            wanted, at = gray[:, :, rows], (corner[0] + top, corner[1])
            values = self.values(color[:, :, rows], wanted, at)
            if dtype != np.float32:
                level = 255 / np.iinfo(dtype).max
                values = (values / level).round_().mul_(level)
                moved = (wanted - self.translation(values)) / level
                moved = torch.einsum("ij,njhw->nihw", self._share, moved).round_()
                values[:, self._main] += moved * level
            result[:, rows] = quantize(values, dtype)
        return result


def grey_error(pixels: np.ndarray, gray: np.ndarray, translation: HandcraftedTranslation) -> float:
    """max |H_t(O) − I| of H×W×C_B pixels and grey as :func:`to_gray` gives it, in levels of 255."""
    return float(np.abs(to_gray(pixels, translation) - gray).max())


def project_picture(
    gray: Picture, color: Picture, projection: Projection, hints: Hints | None = None
) -> Picture:
    """A colouring by any program, with the grey of the picture that it was made from.

    Args:
        gray: What was colorized; a coloured picture counts as its grey. It gives size, bit depth,
            transparency and metadata.
        color: The colouring, of the same size, or reduced or enlarged as a whole: of it only the
            chroma is used.
        projection: With the H_t of choice.
        hints: Colours that are known in places.

    Raises:
        DataError: The pictures have different shapes.
    """
    size, other = gray.pixels.shape[:2], color.pixels.shape[:2]
    if any(abs(s - o * max(size) / max(other)) > 1 for s, o in zip(size, other)):
        raise DataError(
            f"a colouring of {other[1]}×{other[0]} pixels cannot belong to a picture of "
            f"{size[1]}×{size[0]}; give one of the same shape."
        )
    pixels = color.pixels if color.is_color else np.repeat(color.pixels[..., None], 3, axis=2)
    colors = torch.from_numpy(pixels.astype(np.float32) * (255 / np.iinfo(pixels.dtype).max))
    exact = to_gray(gray.pixels, projection.translation)
    wanted = as_planes(exact[None])
    colors = projection.resized(colors.permute(2, 0, 1)[None], wanted)
    layer = hint_layer(hints, exact, projection) if hints else None
    (result,) = projection.painted(layer)(colors, wanted, gray.pixels.dtype)
    picture = Picture(result, gray.alpha, gray.metadata, gray.note)
    picture.add_notes([layer.note] if layer and layer.note else [])
    return picture


class Colored:
    """Stands in for a ``Colorizer`` where another program has made the colours already.

    Args:
        color: Its picture.
        projection: What makes the grey right.
    """

    outputs = (1,)
    network_seconds = 0.0

    def __init__(self, color: Picture, projection: Projection):
        self.color, self.projection = color, projection
        self.translation = projection.translation

    def passes(self, sizes: Sequence) -> "list[list[int]]":
        """Pictures go one by one."""
        return [[i] for i in range(len(sizes))]

    def colorize_pictures(
        self, pictures: Sequence[Picture], hints: "Sequence[Hints | None] | None" = None
    ) -> "list[list[Picture]]":
        """The colouring, projected onto each of the pictures."""
        hints = hints or [None] * len(pictures)
        return [
            [project_picture(picture, self.color, self.projection, its)]
            for picture, its in zip(pictures, hints)
        ]
