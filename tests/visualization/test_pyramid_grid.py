import numpy as np
import pytest
import torch
from PIL import Image

from spynco_mm.visualization import pyramid_grid, save_png

BLUE, GREEN, RED = np.eye(3)[::-1] * 255  # as RGB


def constant(bgr, size):
    return torch.tensor(bgr, dtype=torch.float32)[:, None, None].expand(3, size, size)


def sample(size=32, pyramid=True):
    outputs = torch.stack(
        [constant(c, size) for c in ([300, 0, 0], [0, 254.6, 0], [0, -20, 255])]  # B, G, R
    )
    gray = constant([90, 90, 90], size).to(torch.uint8)
    real = constant([10, 20, 30], size).to(torch.uint8)
    return gray, outputs if pyramid else outputs[:1], real


def cells(grid, columns, row=0, size=128, gap=4, header=28):
    """The pixels of each cell of a row of square images."""
    top = header + row * (size + gap)
    lefts = [gap + column * (size + gap) for column in range(columns)]
    return [grid[top : top + size, left : left + size] for left in lefts]


def test_columns_of_the_pyramid():
    grid = pyramid_grid([sample(), sample()])
    assert grid.dtype == np.uint8 and grid.shape == (28 + 2 * 132, 4 + 5 * 132, 3)
    for row in range(2):
        for cell, color in zip(cells(grid, 5, row), ([90] * 3, RED, GREEN, BLUE, [30, 20, 10])):
            assert (cell == color).all()
    # each column has its title, in the middle
    for left in range(4, grid.shape[1], 132):
        ink = (grid[:28, left : left + 128] < 128).any(axis=(0, 2)).nonzero()[0]
        assert abs((ink[0] + ink[-1]) / 2 - 64) < 4


def test_model_without_pyramid():
    grid = pyramid_grid([sample(pyramid=False)])
    assert grid.shape[1] == 4 + 3 * 132
    for cell, color in zip(cells(grid, 3), ([90] * 3, BLUE, [30, 20, 10])):
        assert (cell == color).all()


@pytest.mark.parametrize("size, factor", [(16, 8), (32, 4), (100, 2), (256, 1)])
def test_small_images_are_enlarged_pixel_by_pixel(size, factor):
    image = torch.randint(0, 256, (3, size, size), dtype=torch.uint8)
    grid = pyramid_grid([(image, image[None], image)])
    shown = size * factor
    gap = max(4, shown // 32)
    cell = grid[-gap - shown : -gap, -gap - shown : -gap]
    expected = image.flip(0).permute(1, 2, 0).numpy()
    assert (cell.reshape(size, factor, size, factor, 3) == expected[:, None, :, None]).all()


def test_sizes_may_differ():
    grid = pyramid_grid([sample(64), sample(200)])
    assert grid.shape[1] == 6 + 5 * 206


def test_no_sample():
    with pytest.raises(ValueError, match="no sample to show"):
        pyramid_grid([])


def test_png_round_trip(tmp_path):
    grid = pyramid_grid([sample()])
    path = tmp_path / "new" / "grid.png"
    save_png(grid, path)
    assert (np.asarray(Image.open(path)) == grid).all()
    assert [p.name for p in path.parent.iterdir()] == ["grid.png"]
