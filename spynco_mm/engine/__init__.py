from .checkpoint import AtomicLocalBackend, ExactResumeHook, latest_checkpoint
from .loss_hook import LossHook


__all__ = [
    "AtomicLocalBackend",

    "ExactResumeHook",
    "LossHook",
    "latest_checkpoint",
]
