"""Where there is a GPU, the tests that need one run in a process that sees it; see conftest.py."""

import os
import subprocess
import sys
from pathlib import Path

import c_library
import pytest

GPUS = os.environ.get("HIDDEN_GPUS", "")


@pytest.mark.skipif(
    GPUS in ("", "-1") or not any(map(os.path.exists, c_library.GPUS)), reason="no GPU was hidden"
)
def test_what_needs_a_gpu():
    env = {**os.environ, "CUDA_VISIBLE_DEVICES": GPUS}
    if GPUS == "all":
        del env["CUDA_VISIBLE_DEVICES"]
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", str(Path(__file__).parent)]
    run = subprocess.run(command, env=env, capture_output=True, text=True, timeout=1800)
    # Without a driver that torch can use, all are skipped.
    assert run.returncode == 0, run.stdout[-5000:] + run.stderr[-2000:]
