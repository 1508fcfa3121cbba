import argparse
import subprocess
import sys
from pathlib import Path

import pytest

from spynco_mm.utils import console
from spynco_mm.utils.console import add_run_arguments, one_sentence_errors

TRAIN = Path(__file__).parents[2] / "tools" / "train.py"


def test_options_of_the_command_line(capsys):
    parser = argparse.ArgumentParser()
    add_run_arguments(parser)
    options = ["a.b=1", "c=my folder/é", "d=(1, 2.5)", "e=x, y", "f=None", "g=a=b", "h=True"]
    assert parser.parse_args(["--cfg-options", *options]).cfg_options == {
        **{"a.b": 1, "c": "my folder/é", "d": (1, 2.5), "e": ["x", "y"]},
        **{"f": None, "g": "a=b", "h": True},
    }
    with pytest.raises(SystemExit):
        parser.parse_args(["--cfg-options", "train_cfg.max_epochs"])
    assert "takes key=value, got 'train_cfg.max_epochs'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "error, sentence",
    [
        (ValueError("wrong"), "ValueError: wrong\n"),
        (FileNotFoundError("no file"), "FileNotFoundError: no file\n"),
        (KeyError("Foo is not in the mmagic::model registry."), "KeyError: Foo is not in the"),
        (
            TypeError("Loop() got an unexpected keyword argument 'max_epoch'"),
            "argument 'max_epoch'",
        ),
    ],
)
def test_expected_errors_are_one_sentence(error, sentence, capsys, monkeypatch):
    monkeypatch.delenv("SPYNCO_TRACEBACK", raising=False)
    with pytest.raises(SystemExit) as end, one_sentence_errors():
        raise error
    assert end.value.code == 1
    assert sentence in capsys.readouterr().err
    monkeypatch.setenv("SPYNCO_TRACEBACK", "1")
    with pytest.raises(type(error)), one_sentence_errors():
        raise error


@pytest.mark.parametrize("error", [KeyError("x"), TypeError("bad operand"), RuntimeError("bug")])
def test_bugs_keep_their_traceback(error, monkeypatch):
    monkeypatch.delenv("SPYNCO_TRACEBACK", raising=False)
    with pytest.raises(type(error)), one_sentence_errors():
        raise error


def test_the_first_process_speaks_for_all(monkeypatch, capsys):
    waited = []
    monkeypatch.delenv("SPYNCO_TRACEBACK", raising=False)
    monkeypatch.setattr(console.time, "sleep", waited.append)
    for rank, expected in (("0", []), ("1", [5])):
        monkeypatch.setenv("RANK", rank)
        with pytest.raises(SystemExit), one_sentence_errors():
            raise ValueError("wrong")
        assert waited == expected


def test_a_tool_ends_with_a_sentence_and_a_status():
    run = subprocess.run(
        [sys.executable, str(TRAIN), "none.py", "--seed", "3"], capture_output=True, text=True
    )
    assert run.returncode == 1
    assert "There is no config 'none.py'" in run.stderr and "Traceback" not in run.stderr


def test_an_interruption_is_one_sentence(capsys):
    with pytest.raises(SystemExit) as end, one_sentence_errors():
        raise KeyboardInterrupt
    assert end.value.code == 130
    assert capsys.readouterr().err.strip() == "Interrupted; a training goes on with --resume."
