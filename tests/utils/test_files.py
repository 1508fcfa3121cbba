import errno
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from spynco_mm.utils.files import (
    AtomicLocalBackend,
    check_writable,
    lock_folder,
    write_atomically,
)


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


def test_a_full_disk_is_named(tmp_path, monkeypatch):
    def full(number):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*/epoch_1\.pth'"):
        write_atomically(tmp_path / "epoch_1.pth", b"new")


def test_a_lock_ends_with_its_process_though_its_workers_live_on(tmp_path):
    read, write = os.pipe()
    holder = os.fork()
    if not holder:
        lock = lock_folder(tmp_path / "run")  # noqa: F841
        worker = os.fork()
        if worker:
            os.write(write, str(worker).encode())
        time.sleep(60)
        os._exit(0)
    worker = int(os.read(read, 20))
    try:
        with pytest.raises(ValueError, match=rf"run is in use by process {holder} on .*; wait"):
            lock_folder(tmp_path / "run")
        os.kill(holder, signal.SIGKILL)
        os.waitpid(holder, 0)
        lock_folder(tmp_path / "run").close()
    finally:
        os.kill(worker, signal.SIGKILL)


def test_what_cannot_be_written_is_known_before(tmp_path):
    path = tmp_path / "new" / "file"
    check_writable(path)
    assert list(path.parent.iterdir()) == []
    path.write_text("old")
    check_writable(path)
    assert path.read_text() == "old"
    (path.parent / "file.part").write_text("another's")
    check_writable(path)
    assert (path.parent / "file.part").read_text() == "another's"
    with pytest.raises(ValueError, match=r"new cannot be written \(Is a directory\); name another"):
        check_writable(path.parent)
    with pytest.raises(ValueError, match=r"below cannot be written \(Not a directory\)"):
        check_writable(path / "below")
    # Of the longest name that there can be.
    path = path.with_name(127 * "ä" + "x")
    check_writable(path)
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new" and len(list(path.parent.iterdir())) == 3


def test_a_system_without_locks(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "fcntl", None)  # as on Windows
    lock_folder(tmp_path).close()
    assert f"{tmp_path} cannot be locked on this disk or system" in capsys.readouterr().err
