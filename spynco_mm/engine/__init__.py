from .checkpoint import (
    AtomicLocalBackend,
    ExactResumeHook,
    check_checkpoint,
    latest_checkpoint,
)
from .compile_hook import CompileHook
from .history_hook import HistoryHook, read_history
from .loss_hook import LossHook
from .report_hook import ColorizationReportHook

__all__ = [
    "AtomicLocalBackend",
    "ColorizationReportHook",
    "CompileHook",
    "ExactResumeHook",
    "HistoryHook",
    "LossHook",
    "check_checkpoint",
    "latest_checkpoint",
    "read_history",
]
