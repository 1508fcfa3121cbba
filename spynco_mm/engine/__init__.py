from .checkpoint import AtomicLocalBackend, ExactResumeHook, latest_checkpoint
from .loss_hook import LossHook
from .report_hook import ColorizationReportHook

__all__ = [
    "AtomicLocalBackend",
    "ColorizationReportHook",
    "ExactResumeHook",
    "LossHook",
    "latest_checkpoint",
]
