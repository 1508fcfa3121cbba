"""Scripts in processes of their own that need not import everything once more.

Importing mmagic takes six seconds of a processor, more than most of what is tested takes. So one
process imports it and does nothing else, and scripts run in forks of that. What a script does
before its imports, ``tools/early.py`` and ``tools/c_library.py``, and the launchers are tested with
real starts.
"""

import multiprocessing
import os
import runpy
import sys
import tempfile
from multiprocessing import forkserver
from pathlib import Path

import torch
from torch.distributed.elastic.utils.distributed import get_free_port

ROOT = Path(__file__).parents[1]


def python_path(*folders) -> str:
    """``PYTHONPATH`` of a process that finds these folders first, and what we find."""
    ours = os.environ.get("PYTHONPATH")
    return os.pathsep.join([*map(str, folders), *([ours] if ours else [])])


def context() -> multiprocessing.context.ForkServerContext:
    """Where processes start with mmagic imported, and on one thread."""
    modules = ["spynco_mm.apis", "mmengine.runner", "pytest", "shortcuts"]
    forkserver.set_forkserver_preload(modules)
    before = dict(os.environ)
    # It finds this tree before an installed one; and threads cannot be forked.
    os.environ.update(PYTHONPATH=python_path(ROOT, ROOT / "tests"))
    os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")
    try:
        forkserver.ensure_running()
    finally:
        os.environ.clear()
        os.environ.update(before)
    return multiprocessing.get_context("forkserver")


def _run(script: str, arguments: "list[str]", env: dict, folder: str, log: str) -> None:
    tempfile.tempdir = None  # Of the new environment.
    with open(log, "ab") as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())
    os.environ.update(env)
    os.chdir(folder)
    multiprocessing.set_start_method("fork", force=True)
    torch.set_num_threads(int(env.get("OMP_NUM_THREADS", 1)))
    sys.argv = [script, *arguments]
    sys.path.insert(0, os.path.dirname(os.path.abspath(script)))
    runpy.run_path(script, run_name="__main__")


class Forked:
    """A Python script that was started.

    Args:
        script: Its file.
        *arguments: Its command line.
        log: An open file for what it prints.
        **env: Variables of its environment, beside those of this process; it sees no GPU.
    """

    def __init__(self, script, *arguments, log=None, **env):
        self._log = log or tempfile.NamedTemporaryFile("a+", suffix=".log")  # noqa: SIM115
        env = {**os.environ, "CUDA_VISIBLE_DEVICES": "", **env}
        words = [str(argument) for argument in arguments]
        where = (str(script), words, env, os.getcwd(), self._log.name)
        self.process = context().Process(target=_run, args=where)
        self.process.start()

    @property
    def stdout(self) -> str:
        """What it has printed so far, errors among it."""
        self._log.seek(0)
        return self._log.read()

    @property
    def returncode(self) -> int:
        """Its status when it has ended; minus the signal that ended it."""
        self.process.join(300)
        if self.process.is_alive():
            self.process.kill()
            raise TimeoutError(self.stdout)
        return self.process.exitcode


def ranks(script, *arguments, **env) -> "list[Forked]":
    """Two processes of one run, as a launcher would start them."""
    place = dict(WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(get_free_port()))
    return [
        Forked(script, *arguments, RANK=str(rank), LOCAL_RANK=str(rank), **place, **env)
        for rank in range(2)
    ]
