"""The paper's figure 5: what the outputs made of some images along the training."""

from collections.abc import Sequence

from matplotlib.figure import Figure
from mmagic.structures import DataSample

from spynco_mm.evaluation import read_images
from spynco_mm.visualization import to_rgb


def epoch_grid(samples: dict[int, Sequence[dict | DataSample]]) -> Figure:
    """One block per image: on top grey and real, below a row per epoch of G_N, ..., G_1.

    Args:
        samples: By epoch, the same images as :func:`spynco_mm.evaluation.read_images` takes them.

    Raises:
        ValueError: There is nothing to show, or not the same number of images at every epoch.
    """
    counts = {len(row) for row in samples.values()}
    if len(counts) != 1 or 0 in counts:
        raise ValueError("epoch_grid: it takes the same images, at least one, for each epoch.")
    epochs = sorted(samples)
    images = [[read_images(sample) for sample in samples[epoch]] for epoch in epochs]
    n = len(images[0][0][1])
    figure = Figure(figsize=(counts.pop() * (n * 0.8 + 0.4), (len(epochs) + 1.5) * 0.8))
    grid = figure.subplots(
        len(epochs) + 1,
        len(images[0]) * (n + 1),
        squeeze=False,
        gridspec_kw=dict(
            width_ratios=[0.4, *[1] * n] * len(images[0]),
            wspace=0.05, hspace=0.05, left=0.01, right=0.99, top=0.95, bottom=0.03,
        ),
    )  # fmt: skip
    for axes in grid.flat:
        axes.set_axis_off()
    for i in range(len(images[0])):
        block = grid[:, i * (n + 1) : (i + 1) * (n + 1)]
        gray, _, real = images[0][i]
        for axes, image, title in ((block[0, 1], gray, "grey"), (block[0, n], real, "real")):
            axes.imshow(to_rgb(image), interpolation="nearest")
            axes.set_title(title, fontsize=7, pad=2)
        for row, epoch, shown in zip(block[1:], epochs, images):
            row[0].text(0.9, 0.5, str(epoch), ha="right", va="center", fontsize=7)
            for column, output in zip(row[1:], shown[i][1].flip(0)):
                column.imshow(to_rgb(output), interpolation="nearest")
    for column in range(n):
        for i in range(len(images[0])):
            axes = grid[-1, i * (n + 1) + 1 + column]
            axes.set_title(f"$G_{n - column}$", fontsize=7, y=-0.22)
    return figure
