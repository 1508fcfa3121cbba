import json
import runpy
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "export.py"


def test_export(monkeypatch, capsys, tiny_checkpoint, tmp_path):
    path = tmp_path / "colorizer.onnx"
    monkeypatch.setattr(sys, "argv", [str(TOOL), str(tiny_checkpoint), str(path)])
    runpy.run_path(str(TOOL), run_name="__main__")
    report = json.loads((tmp_path / "colorizer.onnx.json").read_text())
    assert report["file"] == "colorizer.onnx"
    assert report["max_difference"] < 0.01
    printed = capsys.readouterr().out
    assert "|     2 |    101 |    67 | G1     |" in printed
    assert f"{path}: " in printed
    assert sorted(p.name for p in tmp_path.iterdir()) == ["colorizer.onnx", "colorizer.onnx.json"]


def test_the_checkpoint_is_not_replaced(monkeypatch, capsys, tiny_checkpoint, tmp_path):
    path = tmp_path / "net.pt"
    path.write_bytes(tiny_checkpoint.read_bytes())
    monkeypatch.setattr(sys, "argv", [str(TOOL), str(path), f"{tmp_path}/./net.pt"])
    with pytest.raises(SystemExit):
        runpy.run_path(str(TOOL), run_name="__main__")
    assert "net.pt is what is exported; name another file" in capsys.readouterr().err
    assert path.read_bytes() == tiny_checkpoint.read_bytes()


def test_an_unknown_format(monkeypatch, capsys, tiny_checkpoint, tmp_path):
    path = tmp_path / "colorizer.tflite"
    monkeypatch.setattr(sys, "argv", [str(TOOL), str(tiny_checkpoint), str(path)])
    try:
        runpy.run_path(str(TOOL), run_name="__main__")
    except SystemExit as stop:
        assert stop.code == 1
    assert "The name ends in .onnx or .pt" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
