import os
import subprocess
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / "tools"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="settings of Linux's C library")

SCRIPT = """
import os, resource, sys
sys.path.insert(0, {tools!r})
import c_library
c_library.restart({script})
import numpy  # which is there sooner than torch

def new_pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    numpy.ones(2**23)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

for _ in range(4):  # The place of one array may have to be found a second time.
    new_pages()
print(os.getpid(), sys.argv[1:], os.environ.get("GLIBC_TUNABLES"), new_pages(), sep="|")
"""


def run(tmp_path, script="__file__", **env):
    """The settings under which a script runs, and how many new pages an array takes there."""
    file = tmp_path / "script.py"
    file.write_text(SCRIPT.format(tools=str(TOOLS), script=script))
    kept = {key: value for key, value in os.environ.items() if key != "GLIBC_TUNABLES"}
    kept.update(CUDA_VISIBLE_DEVICES="", NUMPY_MADVISE_HUGEPAGE="0")
    command = [sys.executable, str(file), "a b", "--c"]
    with subprocess.Popen(
        command, env={**kept, **env}, stdout=subprocess.PIPE, text=True
    ) as process:
        pid, arguments, settings, pages = process.communicate(timeout=120)[0].strip().split("|")
    # It is the same process, started with the same arguments.
    assert process.returncode == 0 and int(pid) == process.pid
    assert arguments == "['a b', '--c']"
    return settings, int(pages)


def test_freed_memory_is_used_again(tmp_path):
    """Otherwise each of these arrays touches new pages; with it, only the first does."""
    settings, kept = run(tmp_path)
    assert "glibc.malloc.mmap_max=0" in settings.split(":")
    settings, given_back = run(tmp_path, script="'/other.py'")
    assert settings == "None"  # It was not started for that script.
    assert kept < given_back / 4


def test_settings_of_the_user_stay(tmp_path):
    settings, _ = run(tmp_path, GLIBC_TUNABLES="glibc.malloc.check=0")
    assert settings == "glibc.malloc.check=0"


def test_a_gpu_that_is_there_and_not_hidden(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(TOOLS)
    import c_library

    device = tmp_path / "nvidiactl"
    monkeypatch.setattr(c_library, "GPUS", (str(device),))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert not c_library.sees_gpu()
    device.touch()
    assert c_library.sees_gpu()
    for hidden in ("", "-1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
        assert not c_library.sees_gpu()
    # With one, a process is not started over.
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    monkeypatch.setattr(sys, "orig_argv", [sys.executable, __file__])
    started = []
    monkeypatch.setattr(os, "execv", lambda *arguments: started.append(arguments))
    c_library.restart(__file__)
    assert not started and "GLIBC_TUNABLES" not in os.environ
    device.unlink()
    c_library.restart(__file__)
    assert started == [(sys.executable, [sys.executable, __file__])]
    os.environ.pop("GLIBC_TUNABLES")
