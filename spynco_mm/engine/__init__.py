from .checkpoint import AtomicLocalBackend, ExactResumeHook, latest_checkpoint
from .history_hook import HistoryHook, read_history
from .loss_hook import LossHook
from .report_hook import ColorizationReportHook

__all__ = [
    "AtomicLocalBackend",
    "ColorizationReportHook",
    "ExactResumeHook",
    "HistoryHook",
    "LossHook",
    "latest_checkpoint",
    "read_history",
]
