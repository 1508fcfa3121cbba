"""Col-Cycle's generator, the baseline of section 6.2.2."""

from mmagic.registry import MODELS

from .generator import SpyncoGenerator


@MODELS.register_module()
class ColCycleGenerator(SpyncoGenerator):
    """SpyncoGan's generator without its pyramid, for a fully cyclic training (section 6.2.2).

    The same layers with the same filters, but the decoder's filters halve with every upsampling, as
    in CycleGAN, and only the last output is mapped to an image. With the defaults it has 4 360 771
    parameters: the two upsampling layers have 256 → 128 and 128 → 64 filters, and the 5×5
    mapping 64 → 3. Trained by mmagic's ``CycleGAN`` with a second one, and two
    :class:`~spynco_mm.models.SpyncoDiscriminator`, that makes 12 891 144.

    Args:
        **kwargs: As for :class:`~spynco_mm.models.SpyncoGenerator`, but for ``num_outputs`` and
            ``return_pyramid``. A plain call returns one N×out_channels×H×W tensor in [-1, 1].
    """

    def __init__(self, **kwargs):
        super().__init__(num_outputs=1, return_pyramid=False, **kwargs)

    @staticmethod
    def decoder_widths(width: int, num_up: int) -> "list[int]":
        """Filters before the first and after each upsampling: half as many each time."""
        return [width // 2**i for i in range(num_up + 1)]
