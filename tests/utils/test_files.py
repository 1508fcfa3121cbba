import os
from pathlib import Path

import pytest

from spynco_mm.utils.files import AtomicLocalBackend, write_atomically


def test_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def crash(*args):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", crash)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_files_appear_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "new" / "epoch_1.pth"
    backend = AtomicLocalBackend()
    backend.put(b"old", path)
    order = []
    monkeypatch.setattr(os, "fsync", lambda number: order.append("fsync"))

    def fail(source, target):
        order.append("replace")
        assert Path(source).read_bytes() == b"new" and path.read_bytes() == b"old"
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no space left"):
        backend.put(b"new", path)
    assert order == ["fsync", "replace"]
    assert path.read_bytes() == b"old" and list(path.parent.iterdir()) == [path]
