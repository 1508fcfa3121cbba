"""A minute of what tests/stress.py does for an hour."""

import json
import subprocess
import sys
from pathlib import Path

STRESS = Path(__file__).parent / "stress.py"


def test_a_killed_run_and_some_starts(tmp_path):
    options = ["--chains", "1", "--kills", "1", "--processes", "1", "--starts", "2", "--disks", "0"]
    run = subprocess.run(
        [sys.executable, str(STRESS), *options, "--out", str(tmp_path / "new")],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    result = json.loads((tmp_path / "new" / "stress.json").read_text())
    assert not result["wrong"]
    counts = result["counts"]
    assert counts["starts of a data loader's workers"] == counts["starts, right"] == 4
    assert counts["chains of 1 process(es), right"] == 1
    assert counts.get("kills", 0) + counts.get("kills that came after the end", 0) == 1
    assert "| starts, right | 4 |" in run.stdout
