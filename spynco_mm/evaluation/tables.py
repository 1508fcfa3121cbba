"""The results of :class:`ColorizationMetric` as nested rows, as text and as JSON."""

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spynco_mm.utils.files import write_atomically

from .colorization_metric import COLOR_SCORES, PROJECTED, SCORES, UINT8_SCORE

#: Header and digits of a score in a table.
COLUMNS = {
    "MSE": ("MSE ↓", 2),
    "PSNR": ("PSNR (dB) ↑", 2),
    "SSIM": ("SSIM ↑", 4),
    UINT8_SCORE: ("MSE in bytes", 2),
    "CIEDE2000": ("CIEDE2000 ↓", 2),
    "concordance": ("concordance ↑", 4),
    "colorfulness": ("colourfulness", 2),
    "colorfulness_error": ("its error ↓", 2),
    "luma_error": ("luma error ↓", 2),
}
UINT8_NOTE = (
    "MSE in bytes: the same mean in 8-bit arithmetic, where (a − b)² is taken modulo 256; random "
    "errors give 105.5. That is our reading of the paper's MSE, not the authors' word."
)
COLOR_NOTE = (
    "Concordance of the chroma c = (a*, b*) with the real r: 2 Σ c·r / Σ (|c|² + |r|²), which is 0 "
    "for grey. Colourfulness (Hasler and Süsstrunk): √(σ²(rg) + σ²(yb)) + 0.3 √(μ²(rg) + μ²(yb)) "
    "of the signed rg = R − G, yb = (R + G)/2 − B; its error is the mean difference to the real "
    "image's, for grey the real colourfulness itself. Luma error: |H_t(O) − I| on 0-255."
)


def markdown_table(rows: Sequence[Sequence], left: Sequence[int] = (0,)) -> str:
    """A table in Markdown whose columns are aligned in plain text, too.

    Args:
        rows: Lines of cells, the header first.
        left: The columns that are aligned to the left, by number; the others are to the right.

    Returns:
        The table, with a line break at its end.
    """
    rows = [[str(cell) for cell in row] for row in rows]
    # A rule takes three dashes at least.
    widths = [max(3, *map(len, column)) for column in zip(*rows, strict=True)]
    rule = ["-" * w if i in left else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
    lines = [
        " | ".join(
            text.ljust(width) if column in left else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths))
        )
        for row in (rows[0], rule, *rows[1:])
    ]
    return "".join(f"| {line} |\n" for line in lines)


def _output_names(rows: dict) -> list[str]:
    """G1, ..., GN."""
    return sorted((name for name in rows if re.fullmatch(r"G\d+", name)), key=lambda n: int(n[1:]))


def results_dict(metrics: dict, prefix: str | None = None) -> dict[str, dict[str, float]]:
    """Rows from flat names.

    Args:
        metrics: ``{'gray/MSE': .., 'G1/MSE': .., ...}``; what other metrics added is left out.
        prefix: The prefix of the ``ColorizationMetric``, if it has one.

    Returns:
        ``{'gray': {'MSE': .., 'PSNR': .., 'SSIM': .., ...}, 'G1': .., ...}``, gray first and
        ``G1_projected`` last.

    Raises:
        ValueError: There is no such row.
    """
    start = re.escape(f"{prefix}/") if prefix else ""
    scores = "|".join([*SCORES, UINT8_SCORE, *COLOR_SCORES])
    pattern = re.compile(rf"{start}(gray|{PROJECTED}|G\d+)/({scores})")
    rows: dict = {}
    for name, value in metrics.items():
        match = pattern.fullmatch(name)
        if match:
            rows.setdefault(match[1], {})[match[2]] = value
    if "gray" not in rows or "G1" not in rows:
        raise ValueError(
            f"No rows {prefix + '/' if prefix else ''}gray and G1 among the metrics "
            f"{', '.join(metrics) or '(none)'}: ColorizationMetric makes them."
        )
    names = ["gray", *_output_names(rows), *([PROJECTED] if PROJECTED in rows else [])]
    return {name: rows[name] for name in names}


def _verdict(results: dict) -> str:
    """Whether G_1 is nearer to the real colours than the grey input, by each score."""
    gray, best = results["gray"], results["G1"]
    # Concordance compares chroma only, of which grey has none.
    scores = [score for score in ("MSE", "PSNR", "SSIM", "CIEDE2000") if score in gray]
    smaller = ("MSE", "CIEDE2000")
    better = [s for s in scores if (best[s] < gray[s] if s in smaller else best[s] > gray[s])]
    if not better:
        return "G_1 does not beat the grey input."
    *others, last = better
    names = f"{', '.join(others)} and {last}" if others else last
    return f"G_1 beats the grey input in {names}{' only' * (len(better) < len(scores))}."


def _note(settings: dict) -> str:
    size = settings["ssim_window_size"]
    return (
        f"{settings['num_images']} images; MSE on 0-{settings['data_range']}; SSIM with a "
        f"{size}×{size} {settings['ssim_window']} window, mean over channels."
    )


def format_table(results: dict) -> str:
    """An aligned table, for the console and as Markdown.

    Args:
        results: As :func:`results_dict` gives it; with ``settings`` beside the rows, as in
            ``results.json``, the note says what it was computed with.

    Returns:
        Rows grey input, G_N, ..., G_1 (the paper's order) and G_1 projected, then some lines of
        notes.
    """
    scores = [score for score in COLUMNS if score in results["gray"]]
    lines = [["output", *(COLUMNS[score][0] for score in scores)]]
    labels = {"gray": "grey input"}
    labels.update((name, f"G_{name[1:]}") for name in reversed(_output_names(results)))
    labels[PROJECTED] = "G_1, projected"
    for name, label in labels.items():
        if name in results:
            row = results[name]
            values = ((row[score], COLUMNS[score][1]) for score in scores)
            # Rounded first, and -0 made 0.
            lines.append([label, *(f"{round(value, n) + 0.0:.{n}f}" for value, n in values)])
    notes = [_verdict(results)]
    if "settings" in results:
        notes.append(_note(results["settings"]))
    if UINT8_SCORE in scores:
        notes.append(UINT8_NOTE)
    if "concordance" in scores:
        notes.append(COLOR_NOTE)
    return "\n".join([markdown_table(lines), *notes])


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def save_results(results: dict, path: str | Path) -> None:
    """Write results as strict JSON, whole or not at all.

    Args:
        results: Rows and ``settings``. A score that is no number, as of a training that diverged,
            is written as ``null``: JSON has no NaN.
        path: The file to write.
    """
    text = json.dumps(_finite(results), indent=2, allow_nan=False, ensure_ascii=False)
    write_atomically(path, (text + "\n").encode())
