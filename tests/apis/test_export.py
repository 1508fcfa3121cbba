import re
from pathlib import Path

import numpy as np
import pytest
import torch
from mmagic.registry import MODELS
from mmengine.config import Config
from skimage import data

from spynco_mm.apis import Colorizer
from spynco_mm.apis import export as export_module
from spynco_mm.apis.export import ExportError, export_and_compare, format_comparison

DOCUMENTATION = Path(__file__).parents[2] / "docs" / "colorize.md"


@pytest.fixture(scope="module")
def colorizer(tiny_checkpoint):
    return Colorizer(tiny_checkpoint, device="cpu", output="all")


@pytest.mark.parametrize("suffix", [".onnx", ".pt"])
def test_the_file_gives_what_pytorch_gives(colorizer, tmp_path, suffix):
    path = tmp_path / f"colorizer{suffix}"
    report = export_and_compare(colorizer, path)
    rows = report["rows"]
    sizes = {(row["batch"], row["height"], row["width"]) for row in rows}
    assert {(2, 15, 15), (1, 101, 67), (2, 1, 1)} <= sizes
    assert {row["output"] for row in rows} == {"G1", "G2", "G3"}
    assert report["max_difference"] == max(row["max_difference"] for row in rows)
    (stated,) = re.findall(r"at most (\S+) levels in G₁ and (\S+) in", DOCUMENTATION.read_text())
    for row in rows:
        most = float(stated[row["output"] != "G1"])
        assert row["max_difference"] <= 2 * most, row  # this network's is another
    assert format_comparison(report).count("\n") == len(rows) + 3

    # Once more, on sizes and a batch that the export did not try, through the plain runtimes.
    gray = torch.from_numpy(
        np.stack([data.camera()[:37, :50], data.moon()[:37, :50], data.page()[:37, :50]])
    )
    gray = gray[:, None].float() / 255
    if suffix == ".onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path))
        assert [o.name for o in session.get_outputs()] == ["color_G1", "color_G2", "color_G3"]
        got = [torch.from_numpy(output) for output in session.run(None, {"gray": gray.numpy()})]
    else:
        got = torch.jit.load(str(path))(gray)
    torch.testing.assert_close(list(got), colorizer(gray), rtol=0, atol=1e-4)


@pytest.mark.gpu
@pytest.mark.parametrize("suffix", [".onnx", ".pt"])
def test_a_network_on_a_gpu(tiny_checkpoint, tmp_path, suffix, monkeypatch):
    """It is exported like one on the CPU."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    colorizer = Colorizer(tiny_checkpoint, device="cuda")
    report = export_and_compare(colorizer, tmp_path / f"colorizer{suffix}")
    assert report["max_difference"] < 0.01
    assert next(colorizer.generator.parameters()).is_cuda


def test_a_deeper_network(tmp_path):
    """At its lowest scale but one, a picture is large enough to go through alone."""
    generator = dict(type="SpyncoGenerator", base_channels=2, num_blocks=1, num_down=3)
    order = dict(type="DataPreprocessor", output_channel_order="RGB")
    model = dict(type="SpyncoGAN", generator=generator, data_preprocessor=order)
    meta = dict(cfg=Config(dict(model=model)).pretty_text)
    state_dict = MODELS.build(model).state_dict()
    torch.save(dict(meta=meta, state_dict=state_dict), tmp_path / "deep.pth")
    colorizer = Colorizer(tmp_path / "deep.pth", device="cpu", raw=True)
    assert export_and_compare(colorizer, tmp_path / "deep.pt")["max_difference"] < 0.01


def test_one_output_is_one_output(tiny_checkpoint, tmp_path):
    colorizer = Colorizer(tiny_checkpoint, device="cpu", output=2)
    report = export_and_compare(colorizer, tmp_path / "two.pt")
    assert {row["output"] for row in report["rows"]} == {"G2"}
    (got,) = torch.jit.load(str(tmp_path / "two.pt"))(torch.rand(1, 1, 20, 20))
    assert got.shape == (1, 3, 20, 20)


def test_a_file_that_differs_is_not_left(colorizer, tmp_path, monkeypatch):
    _, load = export_module.WRITERS[".pt"]
    path = tmp_path / "colorizer.pt"

    def brighter(path):
        run = load(path)
        return lambda gray: [output + 0.01 for output in run(gray)]

    monkeypatch.setitem(export_module.WRITERS, ".pt", (export_module._torchscript, brighter))
    with pytest.raises(ExportError, match=r"differ from PyTorch's by up to 2\.55 grey levels"):
        export_and_compare(colorizer, path)
    assert not path.exists()

    def smaller(path):
        return lambda gray: [output[..., 1:] for output in load(path)(gray)]

    monkeypatch.setitem(export_module.WRITERS, ".pt", (export_module._torchscript, smaller))
    with pytest.raises(ExportError, match=r"gives the shape \(1, 3, 64, 63\) instead of"):
        export_and_compare(colorizer, path)
    assert not path.exists()


def test_a_file_that_does_not_run_is_not_left(colorizer, tmp_path, monkeypatch):
    def broken(path):
        raise RuntimeError("no such operator")

    monkeypatch.setitem(export_module.WRITERS, ".pt", (export_module._torchscript, broken))
    before = tmp_path / "before.pt"
    before.write_bytes(b"of an earlier export")
    for path in (tmp_path / "colorizer.pt", before):
        with pytest.raises(ExportError, match="was made and removed: no such operator"):
            export_and_compare(colorizer, path)
    assert list(tmp_path.iterdir()) == [before]
    assert before.read_bytes() == b"of an earlier export"


def test_what_cannot_be_exported(colorizer, tiny_checkpoint, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"ends in \.onnx or \.pt"):
        export_and_compare(colorizer, tmp_path / "colorizer.bin")
    reduced = Colorizer(tiny_checkpoint, device="cpu", working_size=64)
    with pytest.raises(ValueError, match="working size cannot be exported"):
        export_and_compare(reduced, tmp_path / "colorizer.pt")
    monkeypatch.setattr(export_module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ExportError, match="needs onnx and onnxruntime; pip install"):
        export_and_compare(colorizer, tmp_path / "colorizer.onnx")
    assert not list(tmp_path.iterdir())
