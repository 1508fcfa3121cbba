from .compile_hook import CompileHook
from .cuda_graph_hook import CUDAGraphHook
from .history_hook import HistoryHook, read_history
from .loss_hook import LossHook
from .report_hook import ColorizationReportHook
from .resume_hook import ExactResumeHook
from .schedulers import LinearDecayLR

__all__ = [
    "CUDAGraphHook",
    "ColorizationReportHook",
    "CompileHook",
    "ExactResumeHook",
    "HistoryHook",
    "LinearDecayLR",
    "LossHook",
    "read_history",
]
