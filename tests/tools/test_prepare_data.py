import hashlib
import runpy
import sys
import zipfile
from pathlib import Path

import pytest
from forked import Forked

from spynco_mm.datasets.download import SOURCES, Source

TOOL = Path(__file__).parents[2] / "tools" / "prepare_data.py"


def run(monkeypatch, *args):
    """Run the tool in this process, for speed; returns its exit status."""
    monkeypatch.setattr(sys, "argv", [str(TOOL), *args])
    with pytest.raises(SystemExit) as info:
        runpy.run_path(str(TOOL), run_name="__main__")
    return info.value.code


def test_already_there(monkeypatch, capsys, tmp_path):
    (tmp_path / "UCMerced_LandUse").mkdir()
    assert run(monkeypatch, "ucmerced", "--root", str(tmp_path)) == 0
    assert f"ucmerced was already in {tmp_path / 'UCMerced_LandUse'}" in capsys.readouterr().out


def test_an_archive_put_there_by_hand(monkeypatch, capsys, tmp_path):
    with zipfile.ZipFile(tmp_path / "toy.zip", "w") as archive:
        archive.writestr("toy/a.txt", "A")
    checksum = hashlib.md5((tmp_path / "toy.zip").read_bytes()).hexdigest()
    monkeypatch.setitem(SOURCES, "toy", Source("http://x/toy.zip", "md5", checksum, "toy"))
    assert run(monkeypatch, "toy", "--root", str(tmp_path)) == 0
    assert f"toy is now in {tmp_path / 'toy'}" in capsys.readouterr().out


def test_without_a_network_it_says_what_to_put_where(tmp_path):
    """As a user would run it, with a proxy nobody listens at in place of the network."""
    proxies = dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9")
    process = Forked(TOOL, "cifar10", "--root", tmp_path, no_proxy="", **proxies)
    assert process.returncode == 1
    assert "Traceback" not in process.stdout
    message = process.stdout.strip().splitlines()[-1]
    assert message.startswith("https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz cannot be")
    assert f"put it at {tmp_path}/cifar-10-python.tar.gz and run" in message


def test_an_unknown_name(monkeypatch, capsys):
    assert run(monkeypatch, "imagenet") == 2
    assert "choose from" in capsys.readouterr().err
