from .benchmark_chart import benchmark_chart
from .chord import chord_diagram
from .curves import plot_curves
from .epoch_grid import epoch_grid
from .pyramid_grid import pyramid_grid, save_png

__all__ = [
    "benchmark_chart",
    "chord_diagram",
    "epoch_grid",
    "plot_curves",
    "pyramid_grid",
    "save_png",
]
