from .base import ColorizationDataset
from .images import DataError, list_images, read_image
from .photographs import EmbeddedPhotographs
from .samplers import EpochSampler
from .transforms import HandcraftedTranslationTransform, LoadImage

__all__ = [
    "ColorizationDataset",
    "DataError",
    "EmbeddedPhotographs",
    "EpochSampler",
    "HandcraftedTranslationTransform",
    "LoadImage",
    "list_images",
    "read_image",
]
