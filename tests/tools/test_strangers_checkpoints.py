"""Every tool that takes a checkpoint, given one that would run code, or is broken.

The ways by which a Runner comes to one are in tests/engine/test_guard_hook.py.
"""

import re
import runpy
import sys
import zipfile

import pytest
import torch
from runs import ROOT

CONFIG = """
_base_ = ["{root}/configs/spynco_demo.py"]
model = dict(generator=dict(base_channels=4, num_blocks=2),
             discriminator=dict(channels=(4, 8, 8, 8)))
train_dataloader = dict(dataset=dict(crops_per_photo=1))
"""
TRAIN = "train {config} --work-dir {folder}"
WAYS = {
    "resume": TRAIN + " --resume {evil}",
    "resume auto": TRAIN + " --resume",
    "test": "test {config} {evil} --work-dir {folder}",
    "colorize": "colorize {evil} {folder} --out {folder}",
    "colorize, own config": "colorize {evil} {folder} --out {folder} --config {config}",
    "export": "export {evil} {folder}/out.onnx",
    "demo": "demo {evil}",
}


def with_code(source, target, trap):
    content = torch.load(source, weights_only=True)
    content["meta"]["evil"] = trap
    torch.save(content, target)


def with_zeros(source, target, trap):
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for entry in old.infolist():
            new.writestr(entry, old.read(entry))
        new.writestr("archive/data/bomb", bytes(50 << 20), zipfile.ZIP_DEFLATED)


def with_a_flipped_byte(source, target, trap):
    data = bytearray(source.read_bytes())
    data[len(data) // 2] ^= 4
    target.write_bytes(data)


SENTENCES = {
    with_code: r"it holds more than weights, or is damaged \(GLOBAL posix\.mkdir\)",
    with_zeros: r"it unpacks to \d+ bytes, more than its own size",
    with_a_flipped_byte: r"it is damaged, in its part '.*'; use another, or copy it again\.",
}
CASES = [
    *((way, "file", with_code) for way in WAYS),
    *((way, "address", with_code) for way in ("test", "export")),
    *((way, "file", with_zeros) for way in ("resume", "test")),
    *((way, "file", with_a_flipped_byte) for way in ("resume auto", "test")),
]


@pytest.mark.parametrize("way, place, make", CASES)
def test_one_sentence_and_nothing_else(
    tiny_checkpoint, trap, server, tmp_path, monkeypatch, capsys, way, place, make
):
    if way == "demo":
        pytest.importorskip("gradio")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    config, folder = tmp_path / "config.py", tmp_path / "run"
    config.write_text(CONFIG.format(root=ROOT))
    folder.mkdir()
    evil = folder / "epoch_7.pth"
    make(tiny_checkpoint, evil, trap)
    if place == "address":
        server.files["/epoch_7.pth"] = evil.read_bytes()
        evil = f"{server.url}/epoch_7.pth"

    name, *words = WAYS[way].split()
    words = [word.format(config=config, folder=folder, evil=evil) for word in words]
    path = ROOT / "tools" / f"{name}.py"
    monkeypatch.setattr(sys, "argv", [str(path), *words])
    with pytest.raises(SystemExit) as info:
        # In this process, for speed; as a script only what does not start itself again.
        tool = runpy.run_path(str(path), run_name="__main__" if name == "colorize" else "tool")
        tool["main"]()
    assert info.value.code == 1 and not trap.folder.exists()
    errors = capsys.readouterr().err
    assert re.search(rf"^CheckpointError: \S+epoch_7\.pth.*: {SENTENCES[make]}", errors, re.M)
    assert "Traceback" not in errors
