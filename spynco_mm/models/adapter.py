"""One way to ask any generator."""

from mmengine.model import is_model_wrapper
from torch import Tensor, nn

#: Copies of the widest features that are alive at once in evaluation, as measured.
COPIES = 4


def unwrapped(network: nn.Module) -> nn.Module:
    """A model or network without its wrapper of distributed training, if it has one."""
    return network.module if is_model_wrapper(network) else network


class AnyGenerator:
    """What training and colorizing ask of a generator, answered for every network.

    Our generators answer for themselves. Any other one has a single output, and is taken to need
    the sizes that mmagic's ``ResnetGenerator`` needs.

    Args:
        network: The generator, wrapped for distributed training or not.

    Attributes:
        num_outputs: N.
        stride: H and W of its images are multiples of it.
        min_size: Their minimum.
        consistency: Its :class:`~spynco_mm.models.ExactConsistency`, or None.
    """

    def __init__(self, network: nn.Module):
        self.network = network
        self._inner = unwrapped(network)
        self.num_outputs: int = getattr(self._inner, "num_outputs", 1)
        self.stride: int = getattr(self._inner, "stride", 4)
        self.min_size: int = getattr(self._inner, "min_size", 16)
        self.consistency: nn.Module | None = getattr(self._inner, "consistency", None)

    def __call__(self, images: Tensor, num_outputs: int | None = None) -> list[Tensor]:
        """The pyramid of N×C×H×W images, final output first; one that gives a tensor has one.

        Args:
            images: In [-1, 1], of a size that fits.
            num_outputs: How many outputs to compute; None for all.
        """
        if hasattr(self._inner, "num_outputs"):
            n = self.num_outputs if num_outputs is None else num_outputs
            return self.network(images, num_outputs=n)
        output = self.network(images)
        return [output] if isinstance(output, Tensor) else list(output)

    def bytes_per_pixel(self) -> int:
        """About how much memory the activations take in evaluation, at the widest point."""
        if hasattr(self._inner, "values_per_pixel"):
            return 4 * self._inner.values_per_pixel
        first = next(m for m in self._inner.modules() if isinstance(m, nn.Conv2d))
        return 4 * COPIES * first.out_channels
