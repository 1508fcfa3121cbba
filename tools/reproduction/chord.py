"""The paper's figure 7: a chord for each of the highest accuracies across domains."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_hex
from matplotlib.figure import Figure


def top_quarter(matrix: np.ndarray) -> np.ndarray:
    """Which of the values between different domains are among the highest quarter.

    The diagonal, where a domain is tested on itself, does not take part. As many values as a
    quarter of the others, rounded up, are chosen, and with the last of them all that equal it.

    Args:
        matrix: n×n.

    Returns:
        n×n booleans.
    """
    others = ~np.eye(len(matrix), dtype=bool)
    values = np.sort(matrix[others])[::-1]
    threshold = values[math.ceil(len(values) / 4) - 1]
    return others & (matrix >= threshold)


def chord_diagram(matrix: np.ndarray, labels: Sequence[str]) -> Figure:
    """A chord from the domain of training to the domain of testing, for each pair of domains.

    The top quarter is in colour, that of the training domain; the others are grey. As in the paper
    a chord touches the arc of its training domain and ends before the arc of its test domain.

    Args:
        matrix: n×n accuracies in %, a row per training domain.
        labels: The domains.

    Raises:
        ValueError: There are fewer than two domains, or labels and matrix do not fit.
    """
    # Here, since every process of a training imports this file, too.
    import pandas as pd
    from pycirclize import Circos

    matrix = np.asarray(matrix, dtype=float)
    n = len(labels)
    if n < 2 or matrix.shape != (n, n):
        raise ValueError(
            f"chord_diagram: it takes an n×n matrix for n labels, at least 2, not "
            f"{'×'.join(map(str, matrix.shape))} for {n}."
        )
    chosen = top_quarter(matrix)
    index = {label: i for i, label in enumerate(labels)}
    colors = {label: to_hex(colormaps["turbo"]((i + 0.5) / n)) for label, i in index.items()}

    def style(train: str, test: str) -> dict:
        if chosen[index[train], index[test]]:
            return dict(alpha=0.85, zorder=2)
        return dict(fc="0.85", alpha=0.35, zorder=1)

    # Chords of one width: which domains, not how much, is what they show. A domain without any
    # would be dropped.
    widths = pd.DataFrame(1 - np.eye(n), index=labels, columns=labels)
    circos = Circos.chord_diagram(
        widths,
        space=3,
        cmap=colors,
        label_kws=dict(size=9, r=108),
        link_kws=dict(r2=88, height_ratio=0.2),
        link_kws_handler=style,
    )
    return circos.plotfig(figsize=(6, 6))
