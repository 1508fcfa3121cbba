"""What a tool does before its imports, which take seconds. Imports nothing large itself."""

import os
import signal
import threading
import time


def start() -> None:
    """End with one line on Ctrl-C from now on, and with the launcher of a distributed run."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # Nothing has begun that could be lost. An exception would end in a traceback, or in the
        # hands of an import that takes it for another one.
        signal.signal(signal.SIGINT, _interrupted)
    if "TORCHELASTIC_RUN_ID" in os.environ:
        threading.Thread(target=_follow, args=(os.getppid(),), daemon=True).start()


def _interrupted(number: int, frame: object) -> None:
    if os.environ.get("RANK", "0") == "0":
        os.write(2, b"\nInterrupted.\n")
    os._exit(130)


def _follow(launcher: int) -> None:
    """End when the launcher has ended, which a kill keeps from ending its processes by itself.

    Linux alone could send a signal (``PR_SET_PDEATHSIG``); that a process gets another parent shows
    on every system.
    """
    while os.getppid() == launcher:
        time.sleep(0.5)
    os.write(2, b"\nThe launcher of this run has ended, and so does this process.\n")
    os._exit(1)
