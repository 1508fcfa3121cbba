"""The paper's figure 6: scores along the training."""

from collections.abc import Sequence

from matplotlib.figure import Figure

#: Okabe and Ito's colours, which stay apart for colour-blind readers.
COLORS = ("#0072B2", "#56B4E9", "#009E73", "#E69F00", "#D55E00", "#CC79A7", "#000000")
#: The panels.
SCORES = ("MSE", "SSIM")


def plot_curves(
    curves: dict[str, dict[str, Sequence]], reference: tuple[str, dict[str, float]] = ()
) -> Figure:
    """One panel per score, one line per curve.

    Args:
        curves: By label, the epochs ``x`` and for each score a list with one list of values per
            seed; the line is their mean, the band their range.
        reference: Label and scores of a horizontal line, such as the grey input's.

    Raises:
        ValueError: A curve has not one value per epoch.
    """
    figure = Figure(figsize=(5 * len(SCORES), 4.2), layout="constrained")
    for axes, score in zip(figure.subplots(1, len(SCORES)), SCORES):
        for color, (label, curve) in zip(COLORS * 2, curves.items()):
            seeds = curve[score]
            if any(len(values) != len(curve["x"]) for values in seeds):
                raise ValueError(f"plot_curves: '{label}' has not one {score} for each epoch.")
            columns = list(zip(*seeds))
            mean = [sum(column) / len(column) for column in columns]
            axes.plot(curve["x"], mean, color=color, label=label, marker="o", markersize=3)
            if len(seeds) > 1:
                low, high = [min(c) for c in columns], [max(c) for c in columns]
                axes.fill_between(curve["x"], low, high, color=color, alpha=0.15, linewidth=0)
        if reference:
            label, values = reference
            axes.axhline(values[score], color="0.4", linestyle="--", label=label)
        axes.set(xlabel="epoch", ylabel=score, title=f"{score} {'↑' if score == 'SSIM' else '↓'}")
        axes.grid(alpha=0.3)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize="small")
    return figure
