"""What training and colorizing cost, measured side by side (``tools/benchmark.py``)."""

from .chart import benchmark_chart
from .contenders import COMPILED, CONTENDERS, Cell, model_config
from .measure import describe_machine, measure, measure_colorize
from .report import benchmark_report
from .worker import PARTS

__all__ = [
    "COMPILED",
    "CONTENDERS",
    "PARTS",
    "Cell",
    "benchmark_chart",
    "benchmark_report",
    "describe_machine",
    "measure",
    "measure_colorize",
    "model_config",
]
