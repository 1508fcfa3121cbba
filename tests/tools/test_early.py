"""What a tool does before its imports; here the imports are a pause."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / "tools"
SLOW = f"""
import sys, time
sys.path.insert(0, {str(TOOLS)!r})
import early
early.start()
print("started", flush=True)
try:
    time.sleep(60)
except:
    raise SyntaxError("an import that takes it for something else")
"""
LAUNCHER = f"""
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {SLOW!r}],
                         env=dict(os.environ, TORCHELASTIC_RUN_ID="none"))
child.wait()
"""


def started(code, **kwargs):
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **kwargs,
    )
    assert process.stdout.readline() == "started\n"
    return process


@pytest.mark.parametrize("rank, said", [("0", "\nInterrupted.\n"), ("1", "")])
def test_interrupted_at_once_and_once(rank, said):
    process = started(SLOW, env={**os.environ, "RANK": rank})
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=20)[0] == said
    assert process.returncode == 130


def test_who_ignores_interruptions_goes_on_ignoring_them():
    """As a shell does for what it starts in the background."""
    ignore = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
    process = started(ignore + SLOW)
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)
    process.kill()
    process.communicate()


def test_processes_end_with_a_launcher_that_is_killed():
    launcher = started(LAUNCHER)
    launcher.kill()
    begin = time.time()
    # The end of the file is there when the last who could write is gone.
    said = launcher.communicate(timeout=20)[0]
    assert said == "\nThe launcher of this run has ended, and so does this process.\n"
    assert time.time() - begin < 10
