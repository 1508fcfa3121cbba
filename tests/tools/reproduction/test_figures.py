import io

import numpy as np
import pytest
import torch
from PIL import Image

from reproduction.chord import chord_diagram, top_quarter
from reproduction.curves import plot_curves
from reproduction.epoch_grid import epoch_grid


def render(figure):
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=60)
    return np.asarray(Image.open(buffer).convert("RGB"))


def test_curve_is_the_mean_over_seeds_and_the_band_their_range():
    curve = dict(x=[10, 20], MSE=[[4.0, 2.0], [8.0, 2.0]], SSIM=[[0.1, 0.2], [0.3, 0.4]])
    figure = plot_curves({"G_1": curve}, reference=("grey", dict(MSE=3.0, SSIM=0.5)))
    mse, ssim = figure.axes
    assert mse.lines[0].get_ydata().tolist() == [6.0, 2.0]
    assert mse.lines[1].get_ydata()[0] == 3.0
    np.testing.assert_allclose(ssim.lines[0].get_ydata(), [0.2, 0.3])
    band = mse.collections[0].get_paths()[0].vertices
    assert {(10.0, 4.0), (10.0, 8.0), (20.0, 2.0)} <= {tuple(point) for point in band}
    assert render(figure).std() > 10


def test_curve_of_a_wrong_length_is_named():
    curve = dict(x=[10, 20], MSE=[[4.0]], SSIM=[[0.1]])
    with pytest.raises(ValueError, match="'G_1' has not one MSE for each epoch"):
        plot_curves({"G_1": curve})


def test_top_quarter_by_hand():
    # Twelve values off the diagonal, so three are chosen: 90, 80 and 70. 99s do not take part.
    matrix = np.array(
        [[99, 90, 10, 20], [80, 99, 30, 40], [50, 60, 99, 70], [11, 12, 13, 99]], dtype=float
    )
    assert np.argwhere(top_quarter(matrix)).tolist() == [[0, 1], [1, 0], [2, 3]]
    # An equal value is not left out by its position.
    matrix[3, 0] = 70
    assert np.argwhere(top_quarter(matrix)).tolist() == [[0, 1], [1, 0], [2, 3], [3, 0]]


def test_top_quarter_of_three_domains_rounds_up():
    matrix = np.array([[0, 1, 2], [3, 0, 4], [5, 6, 0]], dtype=float)
    assert np.argwhere(top_quarter(matrix)).tolist() == [[2, 0], [2, 1]]


def test_chords_have_the_colour_of_their_training_set():
    matrix = np.array([[0, 9, 1, 1], [1, 0, 1, 1], [8, 1, 0, 1], [1, 7, 1, 0]], dtype=float)
    labels = ["real_color", "real_gray", "G1_010", "G1_020"]
    figure = chord_diagram(matrix, labels)
    texts = {text.get_text() for text in figure.axes[0].texts}
    assert set(labels) <= texts
    patches = figure.axes[0].patches
    chords = [p.get_facecolor()[:3] for p in patches if p.get_alpha() == 0.85]
    arcs = [p.get_facecolor() for p in patches if p.get_alpha() is None]
    # The sets that start the three highest, in the order of their arcs; each arc has a frame.
    arcs = [color[:3] for color in arcs if color[3]]
    assert sorted(chords) == sorted([arcs[0], arcs[2], arcs[3]])
    assert render(figure).std() > 10


def test_chord_diagram_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="not 2×2 for 3"):
        chord_diagram(np.eye(2), ["a", "b", "c"])


def samples(count, value):
    return [
        dict(
            img_gray=torch.full((3, 8, 8), 128.0),
            img_color=torch.full((3, 8, 8), 200.0),
            fake_color_pyramid=torch.stack([torch.full((3, 8, 8), value + i) for i in range(3)]),
        )
        for _ in range(count)
    ]


def test_epoch_grid_has_a_row_per_epoch_and_the_final_output_last():
    figure = epoch_grid({20: samples(2, 30.0), 10: samples(2, 10.0)})
    shown = [axes.images[0].get_array()[0, 0, 0] for axes in figure.axes if axes.images]
    assert shown == [128, 200] * 2 + [12, 11, 10] * 2 + [32, 31, 30] * 2
    labels = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert labels == ["10", "10", "20", "20"]
    assert render(figure).std() > 10


def test_epoch_grid_refuses_different_images():
    with pytest.raises(ValueError, match="the same images"):
        epoch_grid({10: samples(2, 1.0), 20: samples(1, 1.0)})
