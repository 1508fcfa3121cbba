"""The results of a benchmark as text."""

from spynco_mm.evaluation.tables import markdown_table

from .worker import PARTS

#: What is counted beside the times, by device.
_MEMORY = {
    "cpu": "Operations are what a step calls of torch. Memory is what training adds to the process",
    "cuda": "The GPU is busy for a part of an iteration, with so many launches a step. Memory is "
    "what training adds to its tensors; a CUDA graph's pool holds those of a step for good. The "
    "parts of an iteration are of uncaptured ones, with a wait after each part",
}


def _range(spread: dict, scale: float, form: str) -> str:
    """``median (minimum to maximum)``."""
    median, low, high = (format(spread[key] * scale, form) for key in ("median", "min", "max"))
    return f"{median} ({low} to {high})"


def _costs(cells: list, gpu: bool) -> str:
    """What each model costs."""
    device = ["GPU busy (ms)", "of it", "launches", "graph's pool (MiB)"] if gpu else ["operations"]
    rows = [
        [
            *("size", "batch", "model", "iteration (ms)", "ratio", "its step (ms)", *device),
            *("inference (ms)", "ratio", "peak memory (MiB)", "parameters (M)", "GFLOP"),
            "of attainable",
        ]
    ]
    for cell in cells:
        for name, row in cell["models"].items():
            rows.append(
                [
                    cell["size"],
                    cell["batch"],
                    name,
                    _range(row["iteration"], 1e3, ".1f"),
                    _range(row["ratio"], 1, ".2f"),
                    _range(row["step"], 1e3, ".1f"),
                    *(_on_gpu(row) if gpu else [row["operations"]]),
                    _range(row["inference"], 1e3, ".1f"),
                    _range(row["inference_ratio"], 1, ".2f"),
                    f"{row['peak_memory'] / 2**20:.0f}",
                    f"{row['parameters'] / 1e6:.3f}",
                    f"{row['flops'] / 1e9:.1f}",
                    f"{row['utilization']:.0%}",
                ]
            )
    return markdown_table(rows, left=(2,))


def _on_gpu(row: dict) -> list:
    """What the GPU does in a step: its time, the share of it in an iteration, its launches."""
    share = row["busy"] / row["iteration"]["median"]
    pool = f"{row['graph_pool'] / 2**20:.0f}"
    return [f"{row['busy'] * 1e3:.2f}", f"{share:.0%}", row["launches"], pool]


def _shares(cells: list) -> str:
    """Where the time of an iteration goes."""
    rows = [["size", "batch", "model", *PARTS]]
    for cell in cells:
        for name, row in cell["models"].items():
            total = sum(row["parts"].values())
            shares = [f"{row['parts'][part] / total:.0%}" for part in PARTS]
            rows.append([cell["size"], cell["batch"], name, *shares])
    return markdown_table(rows, left=(2,))


def benchmark_report(results: dict) -> str:
    """Markdown: a row per cell and model.

    Args:
        results: ``machine`` and ``cells``, as the tool writes them.
    """
    machine = results["machine"]
    compiled = f", networks compiled ({machine['compile']})" if machine["compile"] else ""
    parts = [
        _costs(results["cells"], machine["device"] == "cuda"),
        f"{machine['processor']}, torch {machine['torch']}, {machine['device']}, "
        f"{machine['precision']}, {machine['threads']} threads{compiled}. Iterations run through "
        "mmengine's Runner, data and logging included, steps are the model's part alone. Medians "
        "(minimum to maximum) over turns; ratios are to the first model, turn by turn. "
        f"{_MEMORY[machine['device']]}. GFLOP are of an iteration's convolutions and products; "
        "attainable is the rate of a large product in this precision by the faster of torch's "
        "libraries, measured between the turns.\n",
        _shares(results["cells"]),
    ]
    if "colorize" in results:
        row = results["colorize"]
        parts.append(
            f"Colorize, {row['parameters'] / 1e6:.3f} M parameters, {row['megapixels']:.2f} "
            "megapixels of photographs from files to files: "
            f"{_range(row['megapixels_per_second'], 1, '.2f')} megapixels per second, "
            f"{_range(row['share_outside_network'], 100, '.0f')} % of the time outside "
            "the network.\n"
        )
    return "\n".join(parts)
