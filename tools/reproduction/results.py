"""Averages of the paper's tables, and the files they are written to."""

import io
import json
import statistics
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from spynco_mm.evaluation.colorization_metric import UINT8_SCORE
from spynco_mm.utils.files import write_atomically

#: Table 1 of the paper: MSE and SSIM (%) of G_1 with losses on G_1 only, and on all outputs.
TABLE1 = {
    "cezanne": {"l1": (92.9, 82), "spynco": (91.5, 82)},
    "landscape": {"l1": (85.7, 83), "spynco": (85.1, 83)},
    "ucmerced": {"l1": (85.5, 86), "spynco": (83.1, 85)},
    "cifar10": {"l1": (87.2, 89), "spynco": (86.8, 89)},
}
#: Table 2.
TABLE2 = {
    "cezanne": {
        "l1_no_contours": (92.6, 79),
        "l1": (92.9, 82),
        "no_contours": (92.0, 77),
        "spynco": (91.5, 82),
    }
}
#: Table 3: average top-1 accuracy (%) by training set.
TABLE3 = {
    "ucmerced": {"G1_070": 97.0, "G1_100": 95.1, "real_color": 92.4, "real_gray": 92.5},
    "cifar10": {"G1_070": 78.7, "G1_100": 81.0, "real_color": 75.7, "real_gray": 22.1},
}
#: What the paper's tables can be compared with.
PAPER_SCORES = ("MSE", UINT8_SCORE, "SSIM")
LABELS = {
    "spynco": "SpyncoGan, L^{1,2,3}",
    "exact": "SpyncoGan, exact consistency",
    "colcycle": "Col-Cycle",
    "cyclegan": "CycleGAN",
    "l1": "SpyncoGan, L^1",
    "exact_l1": "SpyncoGan, exact consistency, L^1",
    "no_contours": "SpyncoGan, L^{1,2,3} without contours loss",
    "l1_no_contours": "SpyncoGan, L^1 without contours loss",
    "gray": "grey input",
}


def average_over_epochs(history: dict[int, dict], until: int, row: str = "G1") -> dict:
    """MSE and SSIM as Tables 1 and 2 have them: mean over the evaluations up to an epoch.

    Args:
        history: Evaluations by epoch, as :meth:`Run.history` gives them.
        until: Last epoch that counts.
        row: ``G1``, another output, or ``gray``.
    """
    metrics = [entry["metrics"] for epoch, entry in history.items() if epoch <= until]
    return {s: statistics.fmean(m[f"{row}/{s}"] for m in metrics) for s in PAPER_SCORES}


def mean_and_spread(values: Sequence[float]) -> dict:
    """Mean and sample standard deviation over seeds; no spread for a single one."""
    spread = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.fmean(values), "spread": spread}


def cell(value: dict, digits: int, scale: float = 1) -> str:
    """``mean ± spread`` as text."""
    text = f"{value['mean'] * scale:.{digits}f}"
    return text if value["spread"] is None else f"{text} ± {value['spread'] * scale:.{digits}f}"


def save(folder: Path, name: str, result: dict, text: str, figure: Figure | None = None) -> None:
    """Write ``<name>.json`` and ``.md`` and, with a figure, ``.png`` and ``.svg``."""
    content = json.dumps(result, indent=2, ensure_ascii=False)
    write_atomically(folder / f"{name}.json", (content + "\n").encode())
    write_atomically(folder / f"{name}.md", text.encode())
    for suffix in ("png", "svg") if figure else ():
        buffer = io.BytesIO()
        figure.savefig(buffer, format=suffix, dpi=110)
        write_atomically(folder / f"{name}.{suffix}", buffer.getvalue())
