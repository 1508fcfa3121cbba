"""A little of what tests/stress.py does for an hour."""

import json
import sys

import stress
from forked import Forked


class Popen:
    """As subprocess.Popen, of what tests/stress.py starts, but without the imports."""

    def __init__(self, command, env, stdout, **kwargs):
        script, *arguments = command[command.index(sys.executable) + 1 :]
        self.run = Forked(script, *arguments, log=stdout, **env)
        self.pid = self.run.process.pid

    def poll(self):
        return self.run.process.exitcode

    def wait(self, timeout):
        return self.run.returncode


SETTINGS = """
train_dataloader = dict(batch_size=4, dataset=dict(crops_per_photo=1))
train_cfg = dict(max_epochs=4, val_interval=4)
"""


def test_a_killed_run_and_a_start(monkeypatch, capsys, tmp_path):
    options = ["--chains", "1", "--kills", "1", "--processes", "1", "--starts", "1", "--disks", "0"]
    # Whose first moment comes early.
    command = [stress.__file__, *options, "--seed", "1", "--out", str(tmp_path / "new")]
    monkeypatch.setattr(sys, "argv", command)
    monkeypatch.setattr(stress, "SETTINGS", SETTINGS)
    monkeypatch.setattr(stress, "Popen", Popen)
    assert stress.main() == 0
    result = json.loads((tmp_path / "new" / "stress.json").read_text())
    assert not result["wrong"]
    counts = result["counts"]
    assert counts["starts of a data loader's workers"] == counts["starts, right"] == 2
    assert counts["chains of 1 process(es), right"] == 1
    assert counts.get("kills", 0) + counts.get("kills that came after the end", 0) == 1
    assert "| starts, right | 2 |" in capsys.readouterr().out
