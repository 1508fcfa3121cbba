"""Shots of a film: where they end, norms that all frames share, chroma that does not flicker.

A network colorizes every frame by itself. What changes between two frames of a shot then is, apart
from what moves, the statistics of the instance norms, which tie each pixel to the whole frame, and
the network's own jumps. The first go with :func:`shared_norms`, the second with :class:`Smoother`.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spynco_mm.evaluation import rgb_to_lab
from spynco_mm.models import HandcraftedTranslation

from .guided import mean3
from .projection import Projection

#: Share of each quarter that has to change its level of green, of 32, between two shots. Frames of
#: a pan and zoom over photographs differ by at most 0.16, of two photographs by 0.44 at least.
CUT = 0.35
#: Frames of a shot whose statistics all share, at least, if it has so many.
SAMPLES = 8
#: Change of the grey, in levels of 255, at which a pixel's colour hardly depends on the last frame.
MOVED = 8.0
#: Change of the grey up to which a pixel counts as still when flicker is measured.
STILL = 2.0


@dataclass
class Shot:
    """Frames from the first on up to the last, exclusive, and evenly spaced ones of them."""

    first: int
    last: int
    samples: "list[np.ndarray]" = field(default_factory=list)


def _histograms(green: np.ndarray) -> np.ndarray:
    """The shares of 32 levels in each quarter of H×W bytes, 4×32."""
    quarters = [part for half in np.array_split(green, 2) for part in np.array_split(half, 2, 1)]
    return np.array([np.bincount(q.ravel() >> 3, minlength=32) / max(q.size, 1) for q in quarters])


def shots(frames: Iterable[np.ndarray]) -> Iterator[Shot]:
    """The shots of a film, each once its end is known.

    A shot ends where the histograms of two frames differ too much.

    Args:
        frames: H×W×3 bytes each.
    """
    shot, before, every = None, None, 1
    for number, pixels in enumerate(frames):
        now = _histograms(pixels[..., 1])
        if shot is None or 0.5 * np.abs(now - before).sum(1).mean() > CUT:
            if shot is not None:
                yield shot
            shot, every = Shot(number, number), 1
        if (number - shot.first) % every == 0:
            shot.samples.append(pixels)
            if len(shot.samples) == 2 * SAMPLES:
                shot.samples, every = shot.samples[::2], 2 * every
        before, shot.last = now, number + 1
    if shot is not None:
        yield shot


class SharedNorm(nn.Module):
    """Instance norm that can take the statistics of several frames.

    Args:
        norm: The one whose place it takes, and what it is until :meth:`learn`.
    """

    def __init__(self, norm: nn.InstanceNorm2d):
        super().__init__()
        self.norm = norm
        self.own()

    def own(self) -> None:
        """Normalise each frame by itself, as the network was trained."""
        self.state = "own"

    def learn(self) -> None:
        """Gather the statistics of what comes; frames that come together share them already."""
        self.state, self.frames, self.mean, self.square = "learn", 0, 0, 0

    def share(self) -> None:
        """Normalise by what was gathered."""
        self.state = "share"

    def forward(self, x: Tensor) -> Tensor:
        """N×C×H×W to the same."""
        if self.state == "own":
            return self.norm(x)
        if self.state == "learn":
            mean = x.mean((0, 2, 3), dtype=torch.float64)
            square = x.var((0, 2, 3), correction=0).double() + mean.square()
            both = self.frames + len(x)
            self.mean = self.mean + (mean - self.mean) * (len(x) / both)
            self.square = self.square + (square - self.square) * (len(x) / both)
            self.frames = both
        else:
            mean, square = self.mean, self.square
        variance = (square - mean.square()).clamp_min(0).to(x)
        norm = self.norm
        return F.batch_norm(x, mean.to(x), variance, norm.weight, norm.bias, False, 0, norm.eps)


@contextmanager
def shared_norms(generator: nn.Module) -> Iterator["list[SharedNorm]"]:
    """Put a :class:`SharedNorm` in the place of every instance norm, and the old ones back after.

    Norms with running statistics have the same for all frames as it is, and stay.
    """
    replaced = {
        name: module
        for name, module in generator.named_modules()
        if isinstance(module, nn.InstanceNorm2d) and not module.track_running_stats
    }

    def put(name: str, module: nn.Module) -> nn.Module:
        parent, _, last = name.rpartition(".")
        setattr(generator.get_submodule(parent), last, module)
        return module

    try:
        yield [put(name, SharedNorm(norm)) for name, norm in replaced.items()]
    finally:
        for name, norm in replaced.items():
            put(name, norm)


class Smoother:
    r"""Mixes a frame's chroma with the last frame's where the grey is as it was.

    .. math:: C_t = c_t + s \, e^{-(d_t / 8)^2} (C_{t-1} - c_t)

    with :math:`d_t` the mean change of the grey in 3×3 pixels, in levels of 255: what moves, and
    what it uncovers, takes its own colour at once, unless it has the same grey.

    Args:
        translation: H_t.
        strength: s, from 0 for nothing to below 1.

    Attributes:
        chroma: C of the last frame, 1×3×H×W, or None before a shot's first.
        gray: Its grey, 1×1×H×W.

    Raises:
        ValueError: The strength is out of its range.
    """

    def __init__(self, translation: HandcraftedTranslation, strength: float):
        if not 0 <= strength < 1:
            raise ValueError(f"smoothing is a number from 0 to below 1, got {strength}.")
        self.strength, self.projection = strength, Projection(translation)
        self.forget()

    def forget(self) -> None:
        """A new shot begins."""
        self.chroma = self.gray = None

    def __call__(self, color: Tensor, gray: Tensor) -> np.ndarray:
        """The next frame, 1×3×H×W and 1×1×H×W in [0, 255], as H×W×3 bytes of exactly that grey."""
        chroma = self.projection.chroma(color)
        if self.chroma is not None:
            change = mean3((gray - self.gray).abs())
            weight = self.strength * torch.exp(-(change / MOVED).square())
            chroma = torch.lerp(chroma, self.chroma, weight.expand_as(chroma))
        self.chroma, self.gray = chroma, gray
        return self.projection(chroma, gray, np.dtype(np.uint8))[0]


def flicker(
    before: np.ndarray, after: np.ndarray, gray_before: np.ndarray, gray_after: np.ndarray
) -> "tuple[float, int]":
    """How much the chroma changes between two frames where the grey does not.

    Args:
        before, after: The frames, H×W×3 bytes.
        gray_before, gray_after: Their grey, H×W in [0, 255].

    Returns:
        Sum over the still pixels of the distance in CIELAB's a* and b*, and their number.
    """
    frames = torch.from_numpy(np.stack([before, after])).permute(0, 3, 1, 2).float()
    chroma = rgb_to_lab(frames)[:, 1:]
    distance = torch.linalg.vector_norm(chroma[1] - chroma[0], dim=0).numpy()
    still = np.abs(gray_after - gray_before) < STILL
    return float(distance[still].sum()), int(still.sum())
