import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from spynco_mm.apis import Colorizer
from spynco_mm.datasets.images import DataError
from spynco_mm.datasets.photographs import photograph_path

BT601 = np.array([0.299, 0.587, 0.114])


@pytest.fixture(scope="module")
def colorize(tiny_checkpoint):
    return Colorizer(tiny_checkpoint, device="cpu")


@pytest.fixture(scope="module")
def photo():
    """A real colour photograph, 75×112."""
    return np.ascontiguousarray(data.chelsea()[::4, ::4])


def paper_checkpoint(tiny_checkpoint, path):
    """The same weights without exact consistency, as in the paper."""
    content = torch.load(tiny_checkpoint, weights_only=True)
    content["meta"]["cfg"] = content["meta"]["cfg"].replace(
        "consistency=dict(type='ExactConsistency')", "consistency=None"
    )
    torch.save(content, path)
    return path


# ------------------------------------------------------------------------------- what comes out


def test_it_is_the_generators_output(colorize, photo):
    gray = photo[:72, :, 0]
    image = torch.from_numpy(gray)[None, None].float() / 127.5 - 1
    with torch.no_grad():
        (want,) = colorize.generator(image.expand(-1, 3, -1, -1), num_outputs=1)
    want = ((want[0] + 1) * 127.5).permute(1, 2, 0).numpy()
    got = colorize(np.ascontiguousarray(gray))
    # Rounded, green so that the grey is right.
    assert abs(got - want)[..., [0, 2]].max() <= 0.501
    assert abs(got - want)[..., 1].max() <= 0.5 + 0.5 * (0.299 + 0.114) / 0.587
    chroma = got.astype(int).max(2) - got.min(2)
    assert chroma.mean() > 3  # a picture in colour, or the tests below would see nothing


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


def test_outputs(tiny_checkpoint, colorize, photo):
    gray = torch.from_numpy(photo[:72, :, 0].copy())[None, None] / 255
    with torch.no_grad():
        pyramid = colorize.generator((gray * 2 - 1).expand(-1, 3, -1, -1))
    pyramid = [output / 2 + 0.5 for output in pyramid]
    for i in (1, 2, 3):
        output = Colorizer(tiny_checkpoint, device="cpu", output=i)(gray)
        torch.testing.assert_close(output, pyramid[i - 1], rtol=0, atol=1e-5)
    everything = Colorizer(tiny_checkpoint, device="cpu", output="all")
    torch.testing.assert_close(everything(gray), pyramid, rtol=0, atol=1e-5)
    one, other = everything([photo, Image.fromarray(photo)])
    assert [a.shape for a in one] == [photo.shape] * 3
    assert [a.mode for a in other] == ["RGB"] * 3


def test_only_what_is_asked_for_is_computed(tiny_checkpoint, photo):
    for output, maps in ((1, 1), (2, 2), ("all", 3)):
        colorize = Colorizer(tiny_checkpoint, device="cpu", output=output)
        calls = []
        colorize.generator.mapping.register_forward_hook(lambda *_, c=calls: c.append(1))
        colorize(photo)
        assert len(calls) == maps


# ---------------------------------------------------------------------------------------- grey


def test_colour_is_turned_grey_with_h_t(colorize, photo):
    rgb = torch.from_numpy(photo).permute(2, 0, 1) / 255
    gray = (rgb * torch.tensor(BT601, dtype=torch.float32)[:, None, None]).sum(0)
    torch.testing.assert_close(colorize(rgb), colorize(gray), rtol=0, atol=1e-4)
    blue = np.zeros_like(photo)
    blue[..., 2] = photo[..., 2]
    assert abs(colorize(blue).astype(float) @ BT601 - blue.astype(float) @ BT601).max() <= 0.51


@pytest.mark.parametrize("working_size", [None, 32, 1000])
@pytest.mark.parametrize("plain", [False, True])
def test_h_t_of_the_result_is_the_grey(tiny_checkpoint, tmp_path, photo, working_size, plain):
    path = tiny_checkpoint
    if plain:
        path = paper_checkpoint(tiny_checkpoint, tmp_path / "paper.pth")
        raw = Colorizer(path, device="cpu", raw=True)(photo[..., 1])
        assert abs(raw @ BT601 - photo[..., 1]).max() > 20
    colorize = Colorizer(path, device="cpu", working_size=working_size)
    for gray in (photo[..., 1], np.random.default_rng(0).integers(0, 256, (60, 90), np.uint8)):
        result = colorize(gray)
        # Half a level of green, which takes what the rounding of red and blue moves.
        assert abs(result @ BT601 - gray).max() <= 0.587 / 2 + 1e-9
        np.testing.assert_array_equal(np.round(result @ BT601), gray)
        assert (result.max(2).astype(int) - result.min(2)).mean() > 3
    deep = photo[..., 1].astype(np.uint16) * 250 + 77
    np.testing.assert_array_equal(np.round(colorize(deep) @ BT601), deep)


def test_saturation(tiny_checkpoint, photo):
    gray = torch.from_numpy(photo[..., 1].copy()) / 255
    once = Colorizer(tiny_checkpoint, device="cpu")(gray)
    for saturation in (0, 0.5, 2):
        for size in (None, 1000):
            colorize = Colorizer(
                tiny_checkpoint, device="cpu", saturation=saturation, working_size=size
            )
            result = colorize(gray)
            chroma, wanted = result - gray, saturation * (once - gray)
            inside = ((gray + wanted > 0) & (gray + wanted < 1)).all(0)
            assert inside.double().mean() > 0.5
            torch.testing.assert_close(chroma[:, inside], wanted[:, inside], rtol=0, atol=1e-5)
    for kwargs in (dict(saturation=2), dict(working_size=64)):
        with pytest.raises(ValueError, match="raw=True leaves out the projection"):
            Colorizer(tiny_checkpoint, device="cpu", raw=True, **kwargs)
    with pytest.raises(ValueError, match="saturation is a number from 0 on, got -1"):
        Colorizer(tiny_checkpoint, device="cpu", saturation=-1)


def test_the_network_sees_the_working_size(tiny_checkpoint):
    colorize = Colorizer(tiny_checkpoint, device="cpu", working_size=64)
    sizes = []
    colorize.generator.register_forward_hook(lambda m, x, y: sizes.append(tuple(x[0].shape)))
    gray = data.camera()[::2]  # 256×512
    result = colorize(gray)
    assert sizes == [(1, 3, 32, 64)]
    # Its chroma is that of the small picture's result.
    small = Image.fromarray(gray).resize((64, 32), Image.Resampling.BICUBIC)
    small = np.asarray(colorize(small).resize((512, 256), Image.Resampling.BILINEAR)).astype(float)
    smaller = small - (small @ BT601)[..., None]
    difference = abs(result - (result @ BT601)[..., None] - smaller)
    assert np.median(difference) < 1.5
    colorize(gray[:40, :40].copy())
    assert sizes[-1] == (1, 3, 40, 40)  # nothing is enlarged


# ---------------------------------------------------------------------------------------- sizes


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (15, 15), (16, 16), (17, 4000), (3, 70)])
def test_any_size(colorize, size):
    picture = np.resize(np.asarray(Image.open(photograph_path("china")))[..., 1], size)
    result = colorize(picture)
    assert result.shape == (*size, 3)
    assert abs(result @ BT601 - picture).max() <= 0.51


def test_a_picture_beyond_memory_is_tiled_with_the_same_result(tiny_checkpoint, photo):
    for output in (1, "all"):
        whole = Colorizer(tiny_checkpoint, device="cpu", output=output)
        tiled = Colorizer(tiny_checkpoint, device="cpu", output=output, memory=1)
        passes = []
        tiled.generator.register_forward_hook(lambda *_, p=passes: p.append(1))
        gray = torch.from_numpy(data.camera()[:301, :403].copy())[None, None] / 255
        torch.testing.assert_close(tiled(gray), whole(gray), rtol=0, atol=2e-4)
        assert not passes
        tiled(gray[..., :16, :16])
        assert passes  # what is no larger than a network needs at least is not tiled


# ---------------------------------------------------------------------------------------- errors


def test_what_is_no_picture(colorize):
    with pytest.raises(ValueError, match="uint8 or uint16, got float64; convert it"):
        colorize(np.zeros((20, 20)))
    for shape in ((20,), (20, 20, 4), (0, 20), (20, 0, 3)):
        with pytest.raises(ValueError, match="takes arrays H×W"):
            colorize(np.zeros(shape, np.uint8))
    for shape in ((20,), (4, 20, 20), (1, 0, 20)):
        with pytest.raises(ValueError, match="takes tensors H×W"):
            colorize(torch.zeros(shape))
    for tensor in (torch.full((20, 20), 1.5), torch.full((20, 20), float("nan"))):
        with pytest.raises(ValueError, match=r"floating point in \[0, 1\], got torch.float32 from"):
            colorize(tensor)
    with pytest.raises(ValueError, match="floating point"):
        colorize(torch.zeros(20, 20, dtype=torch.int64))
    with pytest.raises(TypeError, match="not NoneType"):
        colorize(None)
    with pytest.raises(DataError, match="there is no such file"):
        colorize("missing.png")


def test_arguments_out_of_range(tiny_checkpoint):
    for output in (0, 4, "2", None):
        with pytest.raises(ValueError, match="has the outputs 1 to 3, and 'all'"):
            Colorizer(tiny_checkpoint, output=output)
    with pytest.raises(ValueError, match="working_size must be at least 1, got 0"):
        Colorizer(tiny_checkpoint, working_size=0)
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        Colorizer(tiny_checkpoint, batch_size=0)
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="no device 'cuda'; torch sees no GPU"):
            Colorizer(tiny_checkpoint, device="cuda")
