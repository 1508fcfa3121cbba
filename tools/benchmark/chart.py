"""Chart of a benchmark: where the time of an iteration goes, the memory, and how both grow."""

import io
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure


def benchmark_chart(cells: list[dict[str, Any]], parts: tuple[str, ...]) -> bytes:
    """Draw a benchmark.

    Args:
        cells: As in the benchmark's JSON: ``size``, ``batch`` and ``models``.
        parts: What an iteration is divided into, from bottom to top.

    Returns:
        A PNG: per cell a panel with a bar per model, stacked by part (seconds an iteration), and
        below it the peak memory; of several cells, also how both grow with the pixels of a batch.
    """
    columns = len(cells) + (len(cells) > 1)
    figure = Figure(figsize=(3.4 * columns + 1.2, 6), layout="constrained")
    axes = figure.subplots(2, columns, squeeze=False, height_ratios=(3, 1))
    for (times, memory), cell in zip(axes.T, cells):
        names = list(cell["models"])
        bottom = [0.0] * len(names)
        for part in parts:
            heights = [_seconds(cell["models"][name], part) for name in names]
            times.bar(names, heights, bottom=bottom, label=part)
            bottom = [b + h for b, h in zip(bottom, heights)]
        for index, name in enumerate(names):
            ratio = cell["models"][name]["ratio"]["median"]
            times.annotate(f"×{ratio:.2f}", (index, bottom[index]), ha="center", va="bottom")
        times.set_title(f"{cell['size']}×{cell['size']}, batch {cell['batch']}")
        times.margins(y=0.1)
        times.tick_params(axis="x", labelbottom=False)
        memory.bar(
            names, [cell["models"][name]["peak_memory"] / 2**20 for name in names], color="0.6"
        )
        memory.tick_params(axis="x", rotation=60)
    if len(cells) > 1:
        _growth(cells, *axes[:, -1])
    axes[0][0].set_ylabel("seconds per training iteration")
    axes[1][0].set_ylabel("peak memory (MiB)")
    handles, labels = axes[0][0].get_legend_handles_labels()
    axes[0][0].legend(handles[::-1], labels[::-1], fontsize="small")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def _seconds(row: dict[str, Any], part: str) -> float:
    """Of the median iteration: the shares are measured in a turn of its own."""
    parts = {key: max(value, 0) for key, value in row["parts"].items()}
    return row["iteration"]["median"] * parts[part] / sum(parts.values())


def _growth(cells: list[dict[str, Any]], times: Axes, memory: Axes) -> None:
    """Time a pixel, and memory, against the pixels of a batch."""
    cells = sorted(cells, key=lambda cell: cell["batch"] * cell["size"] ** 2)
    pixels = [cell["batch"] * cell["size"] ** 2 for cell in cells]
    for name in cells[0]["models"]:
        rows = [cell["models"][name] for cell in cells]
        seconds = [row["iteration"]["median"] for row in rows]
        times.semilogx(pixels, [1e6 * t / n for t, n in zip(seconds, pixels)], ".-", label=name)
        memory.semilogx(pixels, [row["peak_memory"] / 2**20 for row in rows], ".-")
    ticks = sorted(set(pixels))
    for axes in (times, memory):
        axes.set_ylim(bottom=0)
        axes.set_xticks(ticks, ticks, rotation=60)
        axes.set_xticks([], minor=True)
    times.tick_params(axis="x", labelbottom=False)
    times.set_title("microseconds per pixel")
    times.legend(fontsize="small")
    memory.set_xlabel("pixels in a batch")
