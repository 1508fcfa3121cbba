"""Colours that are known in places: points and strokes, spread along the grey picture.

Chrominance blending by geodesic distances (Yatziv and Sapiro 2006), here over a network's colours:
a hint paints what can be reached from it without crossing an edge of the grey picture, and fades
into what is there. Only chroma is painted, and the projection comes after it, so the grey stays.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spynco_mm.datasets.images import DataError

from .guided import bicubic, guided_resize
from .pictures import Picture

#: A hint reaches this share of the picture's longer side at most, and ends where the grey has
#: changed by so many levels of 255 on the way. Steps of less than the noise count for nothing.
REACH, CONTRAST, NOISE = 0.5, 40.0, 4.0
#: The longer side of the copy on which distances are measured.
SIDE = 512
#: Colours whose distances are kept apart; more, as of a soft brush, are put together by likeness.
COLORS = 32


@dataclass(frozen=True, eq=False)
class Hints:
    """Pixels whose colour is known.

    Attributes:
        x: K columns, from 0 on.
        y: K rows.
        colors: K×3 RGB in [0, 255].
        size: Height and width of the picture that they belong to, where that is known.

    Raises:
        ValueError: A pixel is given two colours, or one that is out of range.
    """

    x: np.ndarray
    y: np.ndarray
    colors: np.ndarray
    size: "tuple[int, int] | None" = None

    def __post_init__(self):
        columns = (self.y, self.x, *np.asarray(self.colors, float).reshape(-1, 3).T)
        if not all(((c >= 0) & (c <= 255)).all() for c in columns[2:]):
            raise ValueError(
                "the hints' colours are red, green and blue from 0 to 255, not others."
            )
        # In one order whatever they came in.
        found = np.unique(np.stack([np.asarray(c, float) for c in columns], 1), axis=0)
        twice = (np.diff(found[:, :2], axis=0) == 0).all(1)
        if twice.any():
            y, x = found[:-1][twice][0, :2].astype(int)
            raise ValueError(
                f"the hints give the pixel {x},{y} two colours; leave one of them out."
            )
        values = (found[:, 1].astype(int), found[:, 0].astype(int), found[:, 2:])
        for name, value in zip(("x", "y", "colors"), values):
            object.__setattr__(self, name, value)

    @classmethod
    def points(cls, points: Iterable["tuple[int, int, Sequence[float] | str]"]) -> "Hints":
        """Of (x, y, colour), a colour being RGB in [0, 255] or ``"#rrggbb"``."""
        points = [(x, y, _rgb(c) if isinstance(c, str) else c) for x, y, c in points]
        x, y, colors = zip(*points) if points else ((), (), ())
        return cls(np.array(x), np.array(y), np.array(colors))

    @classmethod
    def strokes(cls, picture: Picture) -> "Hints":
        """Of every pixel of a picture that is more opaque than transparent.

        Raises:
            DataError: The picture is opaque everywhere, or transparent.
        """
        if picture.alpha is None:
            raise DataError(
                "a picture of hints is transparent where there is none, but this one is opaque; "
                "save it with transparency."
            )
        scale = 255 / np.iinfo(picture.pixels.dtype).max
        y, x = np.nonzero(picture.alpha * scale > 127.5)
        if not len(y):
            raise DataError("the picture of hints is transparent everywhere; draw some.")
        colors = picture.pixels[y, x].reshape(len(y), -1) * scale
        return cls(x, y, np.broadcast_to(colors, (len(y), 3)), picture.alpha.shape)

    def __add__(self, other: "Hints") -> "Hints":
        pairs = zip((self.x, self.y, self.colors), (other.x, other.y, other.colors))
        return Hints(*(np.concatenate(pair) for pair in pairs), self.size or other.size)

    def __len__(self) -> int:
        return len(self.x)


def _rgb(text: str) -> "tuple[int, ...]":
    if not re.fullmatch(r"#[0-9a-fA-F]{6}", text):
        raise ValueError(f"a colour is #rrggbb, as #c02020, not '{text}'.")
    return tuple(bytes.fromhex(text[1:]))


def parse_hint(text: str) -> "tuple[int, int, str]":
    """The point of ``x,y,#rrggbb``, as :meth:`Hints.points` takes it.

    Raises:
        ValueError: It is none.
    """
    match = re.fullmatch(r"\s*(\d+)\s*,\s*(\d+)\s*,\s*(#[0-9a-fA-F]{6})\s*", text)
    if not match:
        raise ValueError(f"a hint is x,y,#rrggbb, as 120,45,#c02020, not '{text}'.")
    return int(match[1]), int(match[2]), match[3]


@dataclass
class Layer:
    """What hints paint on a picture.

    Attributes:
        values: 1×(1 + C_B)×H×W: opacity, from 0 to 1, and the chroma times that, in levels.
        note: How far the hints were off the picture's grey, in words.
    """

    values: Tensor
    note: str


def hint_layer(hints: Hints, gray: np.ndarray, projection: Any) -> Layer:
    """Spread hints along a grey picture.

    Distances are measured on a copy of at most :data:`SIDE` pixels a side and carried over by
    :func:`~spynco_mm.apis.guided.guided_resize`; the hints' own pixels are set at full resolution.

    Args:
        hints: Where which colour is; one at least.
        gray: H×W float32 in [0, 255].
        projection: The :class:`~spynco_mm.apis.Projection` of the picture's H_t.

    Raises:
        DataError: The picture has another size than that of the strokes, a hint lies outside, or
            H_t is not from RGB to grey.
    """
    height, width = gray.shape[:2]
    if projection.translation.weight.shape != (1, 3):
        raise DataError("hints are colours, which this network, not from grey to RGB, has none of.")
    if hints.size not in (None, (height, width)):
        raise DataError(
            f"the picture of hints has {hints.size[1]}×{hints.size[0]} pixels, but the one they "
            f"are for {width}×{height}; draw them on that."
        )
    outside = (hints.x >= width) | (hints.y >= height) | (hints.x < 0) | (hints.y < 0)
    if outside.any():
        x, y = hints.x[outside][0], hints.y[outside][0]
        raise DataError(f"the hint {x},{y} lies outside the picture of {width}×{height} pixels.")
    colors = torch.from_numpy(hints.colors.T.astype(np.float32))[None, :, :, None]  # [1, 3, K, 1]
    chroma = projection.chroma(colors)[0, :, :, 0]
    full = torch.from_numpy(gray)[None, None]
    scale = min(1.0, SIDE / max(height, width))
    size = [max(1, round(side * scale)) for side in (height, width)]
    small = full if scale == 1 else bicubic(full, size).clamp(0, 255)

    groups, members = _groups(chroma.T.numpy())
    seeds = np.zeros((len(groups), *size), bool)
    at = (hints.y * size[0] // height, hints.x * size[1] // width)
    seeds[members, at[0], at[1]] = True
    distance = geodesic_distance(small[0, 0].numpy(), seeds)
    # A weight without end at a hint and of 0 beyond its reach.
    weights = np.square(1 - distance) / (np.square(distance) + 1e-6)
    near = np.clip(2 * (1 - distance.min(0)) - 1e-6, 0, 1)  # rounding is no reach
    opacity = near * near * (3 - 2 * near)
    total = np.maximum(weights.sum(0), 1e-12)
    painted = np.einsum("lhw,lc->chw", weights, groups) / total * opacity
    field = np.concatenate([255 * opacity[None], painted])  # all in levels
    values = guided_resize(torch.from_numpy(field[None].astype(np.float32)), full)
    values[:, :1] = (values[:, :1] / 255).clamp_(0, 1)
    values[:, 1:] *= values[:, :1] > 0

    rows, columns = torch.from_numpy(hints.y), torch.from_numpy(hints.x)
    values[0, 0, rows, columns] = 1
    values[0, 1:, rows, columns] = chroma
    return Layer(values, _note(hints, colors, full[0, 0, rows, columns], projection))


def _groups(chroma: np.ndarray) -> "tuple[np.ndarray, np.ndarray]":
    """At most :data:`COLORS` different ones of K×3, and which of them each is."""
    step = 0.01
    while True:
        _, members = np.unique(np.round(chroma / step), axis=0, return_inverse=True)
        members = members.reshape(-1)
        count = members.max() + 1
        if count <= COLORS:
            break
        step = max(2 * step, 1)
    means = [chroma[members == group].mean(0) for group in range(count)]
    return np.array(means), members


def geodesic_distance(gray: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """How far every pixel is from the seeds, on the way on which the grey changes least.

    A step of one pixel is 1 / (:data:`REACH` · longer side) long, and longer by what the grey
    changes beyond :data:`NOISE`, over :data:`CONTRAST`. Raster scans (Toivanen 1996) until nothing
    changes, in each of which a row is one cumulative minimum.

    Args:
        gray: H×W in [0, 255].
        seeds: L×H×W bool.

    Returns:
        L×H×W in [0, 1], 1 for everything that is no nearer.
    """
    gray = gray.astype(np.float64)
    step = 1 / (REACH * max(gray.shape))

    def cost(a: np.ndarray, b: np.ndarray, length: float) -> np.ndarray:
        return length * step + np.maximum(abs(a - b) - NOISE, 0) / CONTRAST

    right = cost(gray[:, 1:], gray[:, :-1], 1)
    along = np.concatenate([np.zeros((len(gray), 1)), right.cumsum(1)], 1)
    down = cost(gray[1:], gray[:-1], 1)
    falling = cost(gray[1:, 1:], gray[:-1, :-1], 2**0.5)
    rising = cost(gray[1:, :-1], gray[:-1, 1:], 2**0.5)
    distance = np.where(seeds, 0.0, 1.0)

    def visit(row: int, last: int) -> None:
        here = distance[:, row]
        if 0 <= last < len(gray):
            there, between = distance[:, last], min(row, last)
            np.minimum(here, there + down[between], out=here)
            one, other = (falling, rising) if last < row else (rising, falling)
            np.minimum(here[:, 1:], there[:, :-1] + one[between], out=here[:, 1:])
            np.minimum(here[:, :-1], there[:, 1:] + other[between], out=here[:, :-1])
        s = along[row]
        np.minimum(here, np.minimum.accumulate(here - s, 1) + s, out=here)
        back = np.minimum.accumulate((here + s)[:, ::-1], 1)[:, ::-1] - s
        np.minimum(here, back, out=here)

    while True:
        before = distance.copy()
        for row in range(len(gray)):
            visit(row, row - 1)
        for row in reversed(range(len(gray))):
            visit(row, row + 1)
        if np.abs(before - distance).max() < 1e-9:
            break
    return distance.clip(0, 1)


def _note(hints: Hints, colors: Tensor, gray: Tensor, projection: Any) -> str:
    """By how much the hints were moved to the grey of their pixels."""
    off = (projection.translation(colors)[0, 0, :, 0] - gray).abs()
    worst = int(off.argmax())
    if off[worst] < 1:
        return ""
    moved = projection.values(colors, gray[None, None, :, None], saturation=1)[0, :, worst, 0]
    names = ["#" + bytes(int(v + 0.5) for v in c).hex() for c in (hints.colors[worst], moved)]
    return (
        f"the picture's grey was kept where hints have another, by up to {off[worst]:.1f} levels "
        f"at {hints.x[worst]},{hints.y[worst]}, where {names[0]} became {names[1]}"
    )
