from .colcycle import ColCycleGenerator
from .data_preprocessor import BatchDataPreprocessor
from .discriminator import SpyncoDiscriminator
from .films import spectral_weights
from .generator import SpyncoGenerator
from .losses import ContoursLoss, OSPLoss
from .pseudo_cyclegan import PseudoCycleGAN
from .spyncogan import SpyncoGAN
from .translations import ExactConsistency, HandcraftedTranslation

__all__ = [
    "BatchDataPreprocessor",
    "ColCycleGenerator",
    "ContoursLoss",
    "ExactConsistency",
    "HandcraftedTranslation",
    "OSPLoss",
    "PseudoCycleGAN",
    "SpyncoDiscriminator",
    "SpyncoGAN",
    "SpyncoGenerator",
    "spectral_weights",
]
