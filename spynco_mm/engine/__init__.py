from .checkpoint import (
    AtomicLocalBackend,
    ExactResumeHook,
    check_checkpoint,
    latest_checkpoint,
)
from .loss_hook import LossHook
from .report_hook import ColorizationReportHook

__all__ = [
    "AtomicLocalBackend",
    "ColorizationReportHook",
    "ExactResumeHook",
    "LossHook",
    "check_checkpoint",
    "latest_checkpoint",
]
