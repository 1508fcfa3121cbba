"""CycleGAN, with known translations for some of its directions."""

from mmagic.models.editors import CycleGAN
from mmagic.registry import MODELS

from .image_pool import ImagePool


@MODELS.register_module()
class PseudoCycleGAN(CycleGAN):
    """mmagic's CycleGAN with Handcrafted Translations for some of its directions.

    CycleGAN makes all its generators from one config, so that no config alone can replace one of
    them. All else is CycleGAN's, also the discriminator of the domain that a translation leads to;
    the network of Figure 2b, without it, is :class:`SpyncoGAN`.

    Args:
        handcrafted_translations: Config of the translation for each domain whose generator it
            replaces, such as ``dict(gray=dict(type="HandcraftedTranslation", weights=...))``. As
            CycleGAN's networks all have the same channels, a grey target needs a matrix of three
            equal rows.
        **kwargs: Of mmagic's CycleGAN.
    """

    def __init__(self, *args, handcrafted_translations: dict[str, dict], **kwargs):
        super().__init__(*args, **kwargs)
        self.image_buffers = {domain: ImagePool(self.buffer_size) for domain in self.image_buffers}
        for domain, config in handcrafted_translations.items():
            if domain not in self._reachable_domains:
                raise ValueError(
                    f"PseudoCycleGAN: '{domain}' is none of the reachable domains "
                    f"{self._reachable_domains}."
                )
            self.generators[domain] = MODELS.build(config)
