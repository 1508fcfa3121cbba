import numpy as np
import pytest
import torch
from PIL import Image

from spynco_mm.datasets.images import DataError

BT601 = np.array([0.299, 0.587, 0.114])


def test_every_kind_comes_back_as_it_came(colorize, photo, tmp_path):
    gray = photo[..., 1]
    want = colorize(gray)
    assert want.shape == (*gray.shape, 3)
    assert want.dtype == np.uint8

    Image.fromarray(gray).save(tmp_path / "gray.png")
    for picture in (tmp_path / "gray.png", str(tmp_path / "gray.png"), Image.fromarray(gray)):
        result = colorize(picture)
        assert isinstance(result, Image.Image)
        assert result.mode == "RGB"
        np.testing.assert_array_equal(np.asarray(result), want)

    np.testing.assert_array_equal(colorize(gray[..., None]), want)
    np.testing.assert_array_equal(colorize(np.repeat(gray[..., None], 3, 2)), want)

    wide = colorize(gray.astype(np.uint16) * 257)
    assert wide.dtype == np.uint16
    assert abs(wide / 257 - want).max() <= 0.86  # green is rounded to fit the grey
    assert len(np.unique(wide % 257)) > 100  # more than 8 bits, indeed

    tensor = torch.from_numpy(gray)
    for planes in (tensor, tensor[None], tensor.expand(3, -1, -1)):
        result = colorize(planes)
        assert result.dtype == torch.uint8
        np.testing.assert_array_equal(result.permute(1, 2, 0).numpy(), want)
    for dtype in (torch.float32, torch.float64, torch.float16):
        result = colorize(tensor.to(dtype) / 255)
        assert result.dtype == dtype
        tolerance = 0.86 if dtype != torch.float16 else 1.86
        assert (result.double() * 255 - torch.from_numpy(want).permute(2, 0, 1)).abs().max() < (
            tolerance + 1e-3
        )


def test_batches(colorize, photo):
    gray = photo[..., 1]
    pictures = [gray, gray[:40], photo, gray[:40, ::-1].copy(), Image.fromarray(gray[:33])]
    results = colorize(pictures)
    assert isinstance(results, list)
    assert isinstance(results[4], Image.Image)
    for picture, result in zip(pictures, results):
        difference = np.asarray(colorize(picture)).astype(int) - np.asarray(result)
        assert abs(difference).max() <= 1  # rounding of sums in another order

    stack = np.stack([gray, gray[::-1]])
    result = colorize(stack[..., None])
    assert result.shape == (2, *gray.shape, 3)
    assert abs(result[1].astype(int) - colorize(stack[1])).max() <= 1
    assert colorize(torch.from_numpy(stack)[:, None]).shape == (2, 3, *gray.shape)
    assert colorize([]) == []


def test_colour_is_turned_grey_with_h_t(colorize, photo):
    rgb = torch.from_numpy(photo).permute(2, 0, 1) / 255
    gray = (rgb * torch.tensor(BT601, dtype=torch.float32)[:, None, None]).sum(0)
    torch.testing.assert_close(colorize(rgb), colorize(gray), rtol=0, atol=1e-4)
    blue = np.zeros_like(photo)
    blue[..., 2] = photo[..., 2]
    assert abs(colorize(blue).astype(float) @ BT601 - blue.astype(float) @ BT601).max() <= 0.51


def test_what_is_no_picture(colorize):
    with pytest.raises(ValueError, match="uint8 or uint16, got float64; convert it"):
        colorize(np.zeros((20, 20)))
    for shape in ((20,), (20, 20, 4), (0, 20), (20, 0, 3)):
        with pytest.raises(ValueError, match="takes arrays H×W"):
            colorize(np.zeros(shape, np.uint8))
    for shape in ((20,), (4, 20, 20), (1, 0, 20)):
        with pytest.raises(ValueError, match="takes tensors H×W"):
            colorize(torch.zeros(shape))
    for stack in (np.zeros((0, 20, 20, 3), np.uint8), torch.zeros(0, 1, 20, 20)):
        with pytest.raises(ValueError, match="stacks of at least one picture, got 0×"):
            colorize(stack)
    for tensor in (torch.full((20, 20), 1.5), torch.full((20, 20), float("nan"))):
        with pytest.raises(ValueError, match=r"floating point in \[0, 1\], got torch.float32 from"):
            colorize(tensor)
    with pytest.raises(ValueError, match="floating point"):
        colorize(torch.zeros(20, 20, dtype=torch.int64))
    with pytest.raises(TypeError, match="not NoneType"):
        colorize(None)
    with pytest.raises(DataError, match="there is no such file"):
        colorize("missing.png")
