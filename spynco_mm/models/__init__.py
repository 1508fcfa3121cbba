from .discriminator import SpyncoDiscriminator
from .generator import SpyncoGenerator
from .losses import ContoursLoss, OSPLoss
from .spyncogan import PseudoCycleGAN, SpyncoGAN
from .translations import ExactConsistency, HandcraftedTranslation

__all__ = [
    "ContoursLoss",
    "ExactConsistency",
    "HandcraftedTranslation",
    "OSPLoss",
    "PseudoCycleGAN",
    "SpyncoDiscriminator",
    "SpyncoGAN",
    "SpyncoGenerator",
]
