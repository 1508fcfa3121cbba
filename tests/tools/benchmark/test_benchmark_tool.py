import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

TOOL = Path(__file__).parents[3] / "tools" / "benchmark.py"


def test_two_models_side_by_side(tmp_path):
    command = [
        *(sys.executable, str(TOOL), "--models", "spynco", "spynco_naive", "--batches", "2"),
        *("--sizes", "32", "--rounds", "2", "--turn-seconds", "0.01", "--threads", "1"),
        *("--warmup", "2", "--out", str(tmp_path)),
    ]
    process = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert process.returncode == 0, process.stderr
    table = (tmp_path / "benchmark.md").read_text()
    assert table.strip() in process.stdout
    assert (tmp_path / "benchmark.png").read_bytes().startswith(b"\x89PNG")
    results = json.loads((tmp_path / "benchmark.json").read_text())
    (cell,) = results["cells"]
    assert (cell["size"], cell["batch"], cell["threads"]) == (32, 2, 1)
    fast, naive = cell["models"]["spynco"], cell["models"]["spynco_naive"]
    assert fast["ratio"] == dict(median=1, min=1, max=1)
    for row in (fast, naive):
        assert row["parameters"] == 4_977_923 + 2_084_801
        assert 0 < row["iteration"]["min"] <= row["iteration"]["median"] <= row["iteration"]["max"]
        assert 0.5 < row["step"]["median"] / row["iteration"]["median"] < 1.5
        # A training iteration holds far more than one inference pass.
        assert row["inference"]["median"] < row["iteration"]["median"]
        assert row["peak_memory"] > 4 * 3 * row["parameters"]  # gradients and Adam's two moments
        assert 0 < row["utilization"] < 1 and row["operations"] > 500
        parts = row["parts"]
        assert parts["backward"] > parts["optimizer"] > 0 < parts["generator"]
        assert 0 < parts["losses"] < parts["generator"]
    # The residual blocks are the same in both: 6 convolutions of 3×3 at 8×8, 256 to 256 filters, on
    # three inputs and a batch of 2, once forward and twice backward, 2 operations a product.
    blocks = 6 * 9 * 64 * 256**2 * 6 * 3 * 2
    assert blocks < fast["flops"] < naive["flops"]


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_on_a_gpu(tmp_path, precision):
    command = [
        *(sys.executable, str(TOOL), "--models", "spynco", "--device", "cuda", "--sizes", "32"),
        *("--batches", "4", "--rounds", "1", "--turn-seconds", "0.1", "--precision", precision),
        *("--out", str(tmp_path)),
    ]
    process = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert process.returncode == 0, process.stderr
    (cell,) = json.loads((tmp_path / "benchmark.json").read_text())["cells"]
    row = cell["models"]["spynco"]
    assert 0 < row["busy"] < 1.1 * row["step"]["median"] and 300 < row["launches"] < 1000
    assert 0 < row["utilization"] < 1 and row["flops"] > 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without GPU")
@pytest.mark.parametrize(
    "args, sentence",
    [
        (["--device", "cuda"], "--device cuda needs a GPU"),
        (["--precision", "bfloat16"], "--precision bfloat16 needs --device cuda"),
        (["--compile", "reduce-overhead"], "--compile reduce-overhead needs --device cuda"),
        (["--batches", "0"], "must be at least 1"),
        (["--models", "dcgan"], "invalid choice: 'dcgan'"),
        (["--colorize", "nowhere.pth"], "nowhere.pth: there is no such checkpoint"),
    ],
)
def test_what_cannot_be_measured(monkeypatch, capsys, tmp_path, args, sentence):
    monkeypatch.setattr(sys, "argv", [str(TOOL), *args, "--out", str(tmp_path)])
    with pytest.raises(SystemExit) as info:
        runpy.run_path(str(TOOL), run_name="__main__")
    assert info.value.code and sentence in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
