"""What every tool says and takes on the command line, and how it ends."""

import argparse
import io
import logging
import os
import re
import signal
import sys
import threading
import time
import traceback
from contextlib import contextmanager, suppress
from typing import Any

import torch.distributed
from mmengine.config import DictAction

from .. import compat
from .files import FULL


class CfgOptions(DictAction):
    """mmengine's ``--cfg-options``, which takes no spaces out of the name of a folder, and says so
    where the value of a key is missing.
    """

    @staticmethod
    def _parse_iterable(value: str) -> Any:
        text = value.strip("'\"")
        if text.startswith(("(", "[")) or "," in text:
            return DictAction._parse_iterable(text)
        return DictAction._parse_int_float_bool(text)

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        for pair in values:
            if "=" not in pair:
                parser.error(f"{option_string} takes key=value, got '{pair}'")
        super().__call__(parser, namespace, values, option_string)


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """What every tool that runs a config takes."""
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=CfgOptions,
        metavar="KEY=VALUE",
        help="override settings of the config, such as train_cfg.max_epochs=2",
    )
    parser.add_argument("--launcher", choices=["none", "pytorch", "slurm", "mpi"], default="none")
    parser.add_argument(
        "--local_rank", "--local-rank", type=int, default=0, help="set by launchers"
    )


def printable(name: object) -> str:
    """A file's name on one line of any output: what is no text in it is escaped."""
    text = str(name)
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


#: Mistakes in a config that mmengine finds while it builds; other errors of these types are bugs.
CONFIG_MISTAKES = r"unexpected keyword argument|missing \d+ required|is not in the .* registry"

#: What torch says of other processes, and what that means.
OTHER_PROCESSES = {
    r"DataLoader worker \(pid\S* ([\d, ]+)\) (is killed by signal: [^.]+|exited unexpectedly)": (
        "The data loader's process {0} {1}. Where memory was short, a smaller num_workers helps"
    ),
    r"Timed out waiting \d+ms|Application timeout": (
        "Another process of the run did not answer within the seconds of env_cfg.dist_cfg.timeout: "
        "it was stopped, is stuck, or needs longer"
    ),
    r"Connection (?:closed|reset) by peer": "Another process of the run has ended",
}


def _sentence(error: BaseException, goes_on: str) -> str | None:
    """What to say of an error that its reader can do something about; None for a bug."""
    text = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
    if isinstance(error, OSError) and error.errno in FULL:
        file = error.filename or _file_at_hand(error)
        text = f"{file} could not be written: {error.strerror}. Make room{goes_on}."
    elif isinstance(error, RuntimeError):
        for pattern, meaning in OTHER_PROCESSES.items():
            if found := re.search(pattern, text):
                return f"{meaning.format(*found.groups())}{goes_on}."
        return None
    elif isinstance(error, (TypeError, KeyError)):
        if not re.search(CONFIG_MISTAKES, text):
            return None
    elif not isinstance(error, (OSError, ValueError, FloatingPointError)):
        return None
    if "\nOriginal Traceback" in text:  # from a data loader's process
        text = text.strip().splitlines()[-1].partition(": ")[2]
    return f"{type(error).__name__}: {text}"


def _file_at_hand(error: OSError) -> str:
    """The file that was open where writing failed, which the system does not name."""
    name = "A file"
    for frame, _ in traceback.walk_tb(error.__traceback__):
        for value in frame.f_locals.values():
            if isinstance(value, io.IOBase) and isinstance(getattr(value, "name", None), str):
                name = value.name
    return name


def _raise_where_full(handler: logging.Handler, record: logging.LogRecord) -> None:
    """Make a full disk an error for log files too.

    By itself their handler prints a traceback for each line, and goes on.
    """
    error = sys.exc_info()[1]
    if isinstance(error, OSError) and error.errno in FULL:
        error.filename = getattr(handler, "baseFilename", None)
        raise error
    _HANDLE_ERROR(handler, record)


_HANDLE_ERROR = logging.Handler.handleError


@contextmanager
def one_sentence_errors(goes_on: str = ""):
    """Let a tool end with the sentence of an expected error, without its traceback.

    In a distributed run the first process speaks for all that fail alike. ``SPYNCO_TRACEBACK=1`` in
    the environment shows the traceback.

    Args:
        goes_on: How the work goes on after an interruption, such as "--resume goes on".
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # It may have no letter for H_t's minus.
        sys.stdout.reconfigure(errors="backslashreplace")
    goes_on = goes_on and f"; {goes_on}"
    interrupted = []

    def interrupt(number: int, frame: object) -> None:
        if os.getpid() == owner:  # and not a process of a data loader, which knows no better
            interrupted.append(number)
            if len(interrupted) > 1:
                os._exit(130)
        raise KeyboardInterrupt

    owner = os.getpid()
    before = signal.getsignal(signal.SIGINT)
    catches = before != signal.SIG_IGN and threading.current_thread() is threading.main_thread()
    if catches:
        signal.signal(signal.SIGINT, interrupt)
    logging.Handler.handleError = _raise_where_full
    try:
        yield
    except SystemExit:
        raise
    except BaseException as error:
        # While mmengine formats the config, it makes a wrong syntax of whatever happens.
        while isinstance(error, SyntaxError) and error.__context__:
            error = error.__context__
        stopped = interrupted or isinstance(error, KeyboardInterrupt)
        sentence = f"Interrupted{goes_on}." if stopped else _sentence(error, goes_on)
        if sentence is None or (os.environ.get("SPYNCO_TRACEBACK") == "1" and not stopped):
            raise
        with suppress(OSError):  # It may be a file on the same full disk.
            sys.stdout.flush()
        status = 130 if stopped else 1
        if not int(os.environ.get("RANK", 0)):
            print(f"\n{sentence}", file=sys.stderr)
            if not stopped:
                print("(SPYNCO_TRACEBACK=1 shows where this came from.)", file=sys.stderr)
            sys.stderr.flush()
        elif not stopped:
            # The launcher ends this process meanwhile if rank 0 failed as well.
            time.sleep(5)
            print(f"\n{sentence}", file=sys.stderr, flush=True)
        # At once: waiting for other processes of the run would hide the sentence.
        os._exit(status) if torch.distributed.is_initialized() else sys.exit(status)
    finally:
        logging.Handler.handleError = _HANDLE_ERROR
        if catches:
            signal.signal(signal.SIGINT, before)
    compat.leave_gloo()
