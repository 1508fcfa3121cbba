"""Colours that are known in places: exact there, local, and never of another grey."""

import numpy as np
import pytest
import torch

from spynco_mm.apis import Colorizer, Hints, Picture, Projection, project_picture
from spynco_mm.apis.hints import geodesic_distance, hint_layer, parse_hint
from spynco_mm.datasets.images import DataError
from spynco_mm.models import HandcraftedTranslation

BT601 = np.array([0.299, 0.587, 0.114])
PROJECTION = Projection(HandcraftedTranslation())


@pytest.fixture
def scene():
    """A bright square on a darker ground, with some noise: 60×80."""
    gray = np.random.default_rng(0).integers(98, 103, (60, 80)).astype(np.uint8)
    gray[20:40, 30:60] += 80
    return gray


def apart(a, b):
    return abs(a.astype(int) - b)


def test_hints_are_kept_and_stay_in_their_object(colorize, scene):
    plain = colorize(scene)
    np.testing.assert_array_equal(colorize(scene, Hints.points([])), plain)
    color = PROJECTION.values(torch.tensor([220.0, 150, 120]).view(1, 3, 1, 1), torch.tensor(180.0))
    hints = Hints.points([(45, 30, color.flatten().tolist()), (32, 22, [150, 190, 220])])
    result = colorize(scene, hints)
    np.testing.assert_array_equal(np.round(result @ BT601), scene)
    assert apart(result[30, 45], color.flatten().numpy() + (scene[30, 45] - 180.0)).max() <= 1
    # All of the object, and nothing beyond its edge.
    square = np.zeros(scene.shape, bool)
    square[20:40, 30:60] = True
    assert (apart(result, plain).max(2) > 10)[square].mean() > 0.85  # between them, a blend
    np.testing.assert_array_equal(result[~square], plain[~square])
    around = result[28:33, 43:48] - result[28:33, 43:48] @ BT601[:, None]
    assert np.ptp(around, (0, 1)).max() <= 4  # one colour

    # In any order, with any part of them beside a network's pass in tiles or of a reduced copy.
    again = colorize(scene, Hints.points([(32, 22, "#96bedc")]) + Hints.points(
        [(45, 30, color.flatten().tolist())]
    ))  # fmt: skip
    np.testing.assert_array_equal(again, result)
    both = colorize([scene, scene], [None, hints])
    assert apart(both[0], plain).max() <= 1 and apart(both[1], result).max() <= 1


def test_on_the_way_of_every_pass(tiny_checkpoint, scene):
    scene = np.kron(scene, np.ones((4, 4), np.uint8))
    hints = Hints.points([(180, 120, "#c08060"), (10, 10, "#406080")])
    results = [
        Colorizer(tiny_checkpoint, device="cpu", saturation=2, **kwargs)(scene, hints).astype(int)
        for kwargs in (dict(), dict(memory=1), dict(working_size=80))
    ]
    for result in results:
        np.testing.assert_array_equal(np.round(result @ BT601), scene)
        for x, y, color in ((180, 120, [192, 128, 96]), (10, 10, [64, 96, 128])):
            want = color + scene[y, x] - color @ BT601  # hints have their own saturation
            assert abs(result[y, x] - want).max() <= 1
    assert abs(results[1] - results[0]).max() <= 1
    with pytest.raises(ValueError, match="raw=True leaves out the projection, which hints need"):
        Colorizer(tiny_checkpoint, device="cpu", raw=True)(scene, hints)
    with pytest.raises(ValueError, match="hints are of 1 pictures, but there are 2"):
        Colorizer(tiny_checkpoint, device="cpu")([scene, scene], hints)


def test_a_large_picture_is_measured_on_a_copy(scene):
    """Its edges are those of full resolution all the same, but for four pixels of the copy."""
    scale = 14
    gray = np.kron(scene, np.ones((scale, scale))).astype(np.float32)
    layer = hint_layer(
        Hints.points([(45 * scale + 1, 30 * scale + 5, "#c08060")]), gray, PROJECTION
    )
    opacity = layer.values[0, 0].numpy()
    assert opacity.shape == gray.shape and opacity[30 * scale + 5, 45 * scale + 1] == 1
    margin, square = 8, np.zeros(gray.shape, bool)
    square[20 * scale : 40 * scale, 30 * scale : 60 * scale] = True
    assert opacity[square].min() > 0.5 and (opacity[square] > 0.99).mean() > 0.95
    square[20 * scale - margin : 40 * scale + margin, 30 * scale - margin : 60 * scale + margin] = 1
    assert not layer.values[0, :, ~torch.from_numpy(square)].any()


def test_strokes_over_another_programs_work_in_16_bits(scene):
    deep = scene.astype(np.uint16) * 257 + 5
    strokes = np.zeros((*scene.shape, 3), np.uint8)
    alpha = np.zeros(scene.shape, np.uint8)
    rows = np.arange(35, 55)
    strokes[25, rows] = np.stack([rows * 4, rows, 255 - rows * 2], 1)  # as of a soft brush
    alpha[25, rows], alpha[26, 35] = 255, 100
    hints = Hints.strokes(Picture(strokes, alpha))
    assert len(hints) == 20
    result = project_picture(Picture(deep), Picture(deep), PROJECTION, hints)
    np.testing.assert_array_equal(np.round(result.pixels @ BT601), deep)
    chroma = result.pixels / 257.0 - (result.pixels / 257.0 @ BT601)[..., None]
    wanted = strokes[25, rows] - (strokes[25, rows] @ BT601)[:, None]
    factor = (chroma[25, rows] * wanted).sum(1) / np.square(wanted).sum(1)
    np.testing.assert_allclose(chroma[25, rows], wanted * factor[:, None], atol=0.02)
    assert factor.max() <= 1.001  # less only where a channel would leave the range
    inside = (result.pixels[25, rows] > 0) & (result.pixels[25, rows] < 65535)
    np.testing.assert_allclose(factor[inside.all(1)], 1, atol=1e-3)
    # The grey wins, and it is said.
    off = abs(strokes[25, rows] @ BT601 - deep[25, rows] / 257)
    assert f"by up to {off.max():.1f} levels at {rows[off.argmax()]},25, where #" in result.note
    with pytest.raises(DataError, match="transparent where there is none, but this one is opaque"):
        Hints.strokes(Picture(strokes))
    with pytest.raises(DataError, match="transparent everywhere; draw some"):
        Hints.strokes(Picture(strokes, alpha * 0))
    with pytest.raises(DataError, match="hints has 80×60 pixels, but the one they are for 80×59"):
        project_picture(Picture(deep[1:]), Picture(deep[1:]), PROJECTION, hints)


def test_distances_are_those_of_dijkstra():
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import dijkstra

    gray = np.random.default_rng(1).uniform(0, 12, (9, 11))
    index = np.arange(99).reshape(9, 11)
    rows, columns, costs = [], [], []
    for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
        a = index[: 9 - dy, max(-dx, 0) : 11 - max(dx, 0)].ravel()
        b = a + 11 * dy + dx
        step = np.hypot(dy, dx) / 5.5
        costs.append(step + np.maximum(abs(gray.flat[a] - gray.flat[b]) - 4, 0) / 40)
        rows.append(a)
        columns.append(b)
    ends = np.concatenate(rows), np.concatenate(columns)
    graph = coo_matrix((np.concatenate(costs), ends), shape=(99, 99))
    seeds = np.zeros((2, 9, 11), bool)
    seeds[0, 2, 3] = seeds[1, 8, 10] = True
    want = dijkstra(graph, directed=False, indices=[index[2, 3], index[8, 10]])
    found = geodesic_distance(gray, seeds)
    np.testing.assert_allclose(found, np.minimum(want, 1).reshape(2, 9, 11), atol=1e-9)
    assert 0.2 < (found < 1).mean() < 1


def test_what_is_no_hint(scene):
    for text in ("1,2", "1,2,red", "-1,2,#000000", "1,2,#12345"):
        with pytest.raises(ValueError, match="a hint is x,y,#rrggbb"):
            parse_hint(text)
    assert parse_hint("3, 4,#FFffff") == (3, 4, "#FFffff")
    with pytest.raises(ValueError, match="give the pixel 3,4 two colours"):
        Hints.points([(3, 4, "#ffffff"), (5, 5, "#000000"), (3, 4, "#fffffe")])
    assert len(Hints.points([(3, 4, "#ffffff"), (3, 4, [255, 255, 255])])) == 1
    for value in (300, -1, float("nan")):
        with pytest.raises(ValueError, match="are red, green and blue from 0 to 255"):
            Hints.points([(3, 4, (value, 0, 0))])
    gray = scene.astype(np.float32)
    with pytest.raises(DataError, match="the hint 80,3 lies outside the picture of 80×60"):
        hint_layer(Hints.points([(80, 3, "#ffffff")]), gray, PROJECTION)
    other = Projection(HandcraftedTranslation([[0.5, 0.5, 0, 0]]))
    with pytest.raises(DataError, match="not from grey to RGB"):
        hint_layer(Hints.points([(8, 3, "#ffffff")]), gray, other)
