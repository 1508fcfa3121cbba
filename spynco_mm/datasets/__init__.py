from .base import ColorizationDataset
from .cifar10 import CIFAR10Colorization
from .collate import colorization_collate
from .folder import FolderColorization, UCMercedColorization
from .images import DataError, list_images, read_image
from .photographs import EmbeddedPhotographs
from .samplers import EpochSampler
from .transforms import HandcraftedTranslationTransform, LoadImage

__all__ = [
    "CIFAR10Colorization",
    "ColorizationDataset",
    "DataError",
    "EmbeddedPhotographs",
    "EpochSampler",
    "FolderColorization",
    "HandcraftedTranslationTransform",
    "LoadImage",
    "UCMercedColorization",
    "colorization_collate",
    "list_images",
    "read_image",
]
