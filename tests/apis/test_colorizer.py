import numpy as np
import pytest
import tifffile
import torch
from mmagic.registry import MODELS
from mmengine.config import Config
from PIL import Image

from spynco_mm.apis import CheckpointError, Colorizer, colorize_files, plan
from spynco_mm.models import ExactConsistency, HandcraftedTranslation

BT601 = np.array([0.299, 0.587, 0.114])


def paper_checkpoint(tiny_checkpoint, path):
    """The same weights without exact consistency, as in the paper."""
    content = torch.load(tiny_checkpoint, weights_only=True)
    cfg = Config.fromstring(content["meta"]["cfg"], ".py")
    cfg.model.generator.consistency = None
    content["meta"]["cfg"] = cfg.pretty_text
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


@pytest.mark.gpu
def test_a_gpu_gives_what_the_cpu_gives(tiny_checkpoint, photo, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    on_cpu, on_gpu = (Colorizer(tiny_checkpoint, device=device) for device in ("cpu", "cuda"))
    for image in (photo, photo[:37, :50]):
        assert abs(on_gpu(image).astype(int) - on_cpu(image)).max() <= 1
    gray = torch.from_numpy(photo[:72, :, 0].copy())[None, None] / 255
    torch.testing.assert_close(on_gpu(gray).cpu(), on_cpu(gray), rtol=0, atol=1e-4)


# ---------------------------------------------------------------------------------------- grey


@pytest.mark.parametrize("working_size", [None, 32])
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
    for saturation in (0, 2):
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


# ---------------------------------------------------------------------------------------- errors


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


# ------------------------------------------------------------------------------------ other H_t


def test_another_film(tiny_checkpoint, photo):
    """Known of the pictures, whatever the network was trained with."""
    colorize = Colorizer(tiny_checkpoint, device="cpu", film="orthochromatic")
    weights = colorize.translation.weight[0].double().numpy()
    assert weights[0] < 0.06
    gray = np.round(photo @ weights).astype(np.uint8)
    result = colorize(gray)
    np.testing.assert_array_equal(np.round(result @ weights), gray)
    assert abs(result @ BT601 - gray).max() > 2
    # A colour picture is turned grey as that film would.
    assert abs(colorize(photo) @ weights - photo @ weights).max() < 0.6
    with pytest.raises(ValueError, match=r"an H_t of shape 2×3, but the model's is of 1×3"):
        Colorizer(tiny_checkpoint, device="cpu", film=np.eye(2, 3).tolist())


def untrained(path, weights, **kwargs):
    """A checkpoint of a narrow network with this H_t."""
    weights = np.asarray(weights).tolist()
    channels_a, channels_b = np.shape(weights)
    model = dict(
        type="SpyncoGAN",
        generator=dict(
            type="SpyncoGenerator",
            in_channels=channels_b if channels_a == 1 else channels_a,
            out_channels=channels_b,
            base_channels=4,
            num_blocks=1,
        ),
        handcrafted_translation=dict(type="HandcraftedTranslation", weights=weights),
    )
    torch.manual_seed(0)
    network = MODELS.build(model)
    network.init_weights()
    for parameter in network.parameters():
        parameter.data *= 5
    cfg = Config(dict(model=model)).pretty_text
    torch.save(dict(state_dict=network.state_dict(), meta=dict(cfg=cfg)), path)
    return Colorizer(path, device="cpu", **kwargs)


def test_bands_whose_preview_is_known(tmp_path, photo):
    """Eight made-up spectral bands; red, green and blue are each the mean of some of them."""
    preview = np.zeros((3, 8))
    for row, bands in enumerate(([5, 6, 7], [2, 3, 4], [0, 1])):
        preview[row, bands] = 1 / len(bands)
    whole = untrained(tmp_path / "a.pth", preview)
    result = whole(photo)
    assert result.shape == (*photo.shape[:2], 8) and result.dtype == np.uint8
    np.testing.assert_array_equal(np.round(result @ preview.T), photo)
    assert abs(result[..., 5].astype(int) - result[..., 6]).mean() > 1
    # Bands go in as well as their preview, grey pictures and tensors, also in tiles.
    again = whole(result)
    assert abs(again @ preview.T - result @ preview.T).max() <= 0.5
    assert whole(photo[..., 1]).shape == result.shape
    tiled = untrained(tmp_path / "b.pth", preview, memory=1)
    tensor = torch.from_numpy(photo).permute(2, 0, 1) / 255
    torch.testing.assert_close(tiled(tensor), whole(tensor), rtol=0, atol=2e-4)
    small = untrained(tmp_path / "c.pth", preview, working_size=32)(Image.fromarray(photo))
    np.testing.assert_array_equal(np.round(small @ preview.T), photo)
    # Files of bands are TIFF, and their error is reported.
    Image.fromarray(photo).save(tmp_path / "in.png")
    (job,) = plan([str(tmp_path / "in.png")], tmp_path / "out", suffix=".tif")
    report = colorize_files(whole, [job], progress=False)
    np.testing.assert_array_equal(tifffile.imread(job.targets[0]), result)
    assert 0 < report.grey_errors[job.targets[0]] <= 0.5
    (job,) = plan([str(tmp_path / "in.png")], tmp_path / "out")
    failed = colorize_files(whole, [job], progress=False).failed
    assert failed == {job: "8 channels can be written as TIFF alone; write that."}
    with pytest.raises(ValueError, match="takes arrays H×W, H×W×1 or H×W×3 or H×W×8, got 9×9×4"):
        whole(np.zeros((9, 9, 4), np.uint8))
    with pytest.raises(CheckpointError, match="from 3 channels to 3 leaves nothing open"):
        untrained(tmp_path / "d.pth", np.eye(3))


def test_classes_that_have_a_known_grey(tmp_path):
    """Segmentation: five classes, one-hot, two of which look alike in grey."""
    greys = np.array([[0.0, 0.25, 0.5, 0.5, 1.0]])
    classes = np.random.default_rng(0).integers(0, 5, (24, 32))
    classes[:12] = 2
    onehot = np.eye(5)[classes]
    gray = np.round(onehot @ greys[0] * 255).astype(np.uint8)
    scores = untrained(tmp_path / "a.pth", greys)(gray)
    assert scores.shape == (24, 32, 5)
    # Exactly the grey, wherever five scores in range can have it.
    assert np.median(abs(scores @ greys[0] - gray)) <= 0.5
    # The known grey, and that they sum to one, make anybody's guesses better.
    noisy = onehot + np.random.default_rng(1).normal(0, 0.6, onehot.shape)
    h_t = HandcraftedTranslation([*greys.tolist(), [0.2] * 5])
    exact = ExactConsistency(h_t, out_of_range="keep")(
        torch.from_numpy(noisy).permute(2, 0, 1)[None],
        h_t(torch.from_numpy(onehot).permute(2, 0, 1)[None]),
    )
    before = (noisy.argmax(2) == classes).mean()
    after = (exact[0].argmax(0).numpy() == classes).mean()
    assert after > before + 0.05
