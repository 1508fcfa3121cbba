import argparse
import datetime
import io
import logging
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from torch.distributed import HashStore, ProcessGroupGloo
from torch.utils.data import DataLoader, Dataset

from spynco_mm.utils import console
from spynco_mm.utils.console import add_run_arguments, one_sentence_errors, printable
from spynco_mm.utils.files import write_atomically

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


@pytest.mark.parametrize(
    "said, sentence",
    [
        (
            "DataLoader worker (pid 17) is killed by signal: Killed. ",
            "The data loader's process 17 is killed by signal: Killed. Where memory was short, a "
            "smaller num_workers helps; go on.",
        ),
        (
            "DataLoader worker (pid(s) 17, 18) exited unexpectedly with exit code 1. Details ...",
            "The data loader's process 17, 18 exited unexpectedly.",
        ),
        (
            "[a.cc:78] Timed out waiting 600000ms for recv operation to complete",
            "Another process of the run did not answer within the seconds of env_cfg.dist_cfg.",
        ),
        ("Connection closed by peer [127.0.0.1]:1", "Another process of the run has ended; go on."),
    ],
)
def test_what_torch_says_of_other_processes(said, sentence, capsys, monkeypatch):
    monkeypatch.delenv("SPYNCO_TRACEBACK", raising=False)
    with pytest.raises(SystemExit), one_sentence_errors("go on"):
        raise RuntimeError(said)
    assert sentence in capsys.readouterr().err


def gloo_groups(seconds):
    store, limit = HashStore(), datetime.timedelta(seconds=seconds)
    with ThreadPoolExecutor() as pool:  # Each waits for the other.
        return list(pool.map(lambda rank: ProcessGroupGloo(store, rank, 2, limit), (0, 1)))


def test_what_gloo_says_of_a_process_that_does_not_answer(capsys, monkeypatch):
    monkeypatch.delenv("SPYNCO_TRACEBACK", raising=False)
    group, _silent = gloo_groups(1)
    for _ in range(2):  # It says something else the second time.
        with pytest.raises(SystemExit), one_sentence_errors():
            group.allreduce([torch.ones(1)]).wait()
        said = "\nAnother process of the run did not answer within the seconds of env_cfg.dist_cfg"
        assert capsys.readouterr().err.startswith(said)


def test_what_gloo_says_of_a_process_that_has_ended(capsys, monkeypatch):
    monkeypatch.delenv("SPYNCO_TRACEBACK", raising=False)
    group = gloo_groups(60)[0]
    with pytest.raises(SystemExit), one_sentence_errors():
        group.allreduce([torch.ones(1)]).wait()
    assert capsys.readouterr().err.startswith("\nAnother process of the run has ended.\n")


class Pictures(Dataset):
    def __init__(self, read):
        self.read = read

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return self.read()


def refuse():
    raise ValueError("a.png: no picture")


def die():
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    "read, sentence",
    [
        (refuse, "\nValueError: a.png: no picture\n(SPYNCO"),
        (die, "\nThe data loader's process "),
    ],
)
def test_what_happens_in_a_process_of_a_data_loader(read, sentence, capsys, monkeypatch):
    monkeypatch.delenv("SPYNCO_TRACEBACK", raising=False)
    with pytest.raises(SystemExit), one_sentence_errors():
        next(iter(DataLoader(Pictures(read), num_workers=1, multiprocessing_context="fork")))
    assert capsys.readouterr().err.startswith(sentence)


def write(path):
    with open(path, "w") as file:
        file.write("a" * 10**5)


def log(path):
    logger = logging.Logger("full")
    logger.addHandler(logging.FileHandler(path))
    logger.warning("a" * 10**5)


@pytest.mark.parametrize(
    "writer", [write, log, lambda path: write_atomically(path, b"a" * 10**5)], ids=str
)
def test_a_full_disk_is_one_sentence_with_the_file(
    writer, tmp_path, capsys, monkeypatch, full_disk
):
    monkeypatch.delenv("SPYNCO_TRACEBACK", raising=False)
    with full_disk(10**4), pytest.raises(SystemExit), one_sentence_errors("--resume goes on"):
        writer(tmp_path / "a.pth")
    said = f"OSError: {tmp_path}/a.pth could not be written: File too large. Make room; --resume "
    assert said in capsys.readouterr().err


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
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(SystemExit) as end, one_sentence_errors("the same command does the rest"):
        signal.raise_signal(signal.SIGINT)
    assert end.value.code == 130
    said = "Interrupted; the same command does the rest."
    assert capsys.readouterr().err.strip() == said
    assert signal.getsignal(signal.SIGINT) is before


def lose_a_worker(*args, **kwargs):
    raise RuntimeError("DataLoader worker (pid 3) is killed by signal: Killed. ")


@pytest.mark.parametrize(
    "happens, status, said",
    [
        (lambda *args, **kwargs: signal.raise_signal(signal.SIGINT), 130, "\nInterrupted.\n"),
        (lose_a_worker, 1, "\nThe data loader's process 3 is killed by signal: Killed. Where"),
    ],
    ids=["interruption", "worker"],
)
def test_what_happens_while_the_config_is_formatted(happens, status, said, capsys, monkeypatch):
    """mmengine takes it for an error of the syntax, and repeats the whole config."""
    monkeypatch.delenv("SPYNCO_TRACEBACK", raising=False)
    monkeypatch.setattr("mmengine.config.config.FormatCode", happens)
    with pytest.raises(SystemExit) as end, one_sentence_errors():
        Config(dict(a=1)).dump()
    assert end.value.code == status
    assert capsys.readouterr().err.startswith(said)


def test_a_console_without_our_letters(monkeypatch):
    console = io.TextIOWrapper(io.BytesIO(), "latin-1")
    monkeypatch.setattr(sys, "stdout", console)
    with one_sentence_errors():
        print("|H_t(O) − I|", flush=True)
    assert console.buffer.getvalue() == b"|H_t(O) \\u2212 I|\n"


def test_names_are_printable():
    assert printable(os.fsdecode(b"caf\xe9\n\x1b[31m.png")) == r"caf\udce9\n\x1b[31m.png"
    assert printable(Path("写真 Ελλάδα é.png")) == "写真 Ελλάδα é.png"
