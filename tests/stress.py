"""Runs that are killed, started and starved at random, counted. For as long as you have:

    python tests/stress.py                                      # about an hour on two cores
    python tests/stress.py --chains 1 --starts 5 --disks 1      # a minute

- chains: a run is killed at random moments (one process: itself; two: one of them, or the launcher)
  and resumed each time. At its end its weights, optimizers, schedules, image pools, table and
  picture must be, bit by bit, those of a run that nobody interrupted. A kill must end all of it.
- starts: two processes fork the workers of a data loader right after a collective.
- disks: no file may grow beyond a random size. The run must end with one sentence that names a
  file, and go on afterwards as if nothing had been.

Prints the counts as a table, also after Ctrl-C, writes them as JSON, and exits with 1 if anything
went wrong. What went wrong is kept in the folder.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from subprocess import Popen

import torch

TESTS = Path(__file__).resolve().parent
sys.path[:0] = [str(TESTS / "tools"), str(TESTS.parent)]

from forked import python_path  # noqa: E402
from interruptions import same  # noqa: E402
from runs import FOLDERS, write_config  # noqa: E402

LIMIT = 300  # Seconds after which a run counts as hanging.
SETTINGS = """
train_dataloader = dict(batch_size=4, dataset=dict(crops_per_photo=4))  # 10 batches, or 5 for each
train_cfg = dict(max_epochs=4, val_interval=1)
"""
# Forked beside the threads of gloo, which the exchange before it has left at work.
WORKERS = ["train_dataloader.num_workers=2", "train_dataloader.persistent_workers=True"]


class Run:
    """A training by ``tools/train.py``, or ``tools/dist_train.sh`` with two processes."""

    def __init__(self, config: Path, work_dir: Path, processes: int, *options: str, blocks=None):
        tool = ["dist_train.sh", str(config), "2"] if processes == 2 else ["train.py", str(config)]
        program = ["bash"] if processes == 2 else [sys.executable]
        program += [str(TESTS.parent / "tools" / tool[0]), *tool[1:], "--work-dir", str(work_dir)]
        limit = "" if blocks is None else f"ulimit -f {blocks};"
        self.log = Path(f"{work_dir}.log")
        self.start = time.time()
        with self.log.open("ab") as log:
            self.process = Popen(
                ["bash", "-c", f'{limit} exec "$@"', "run", *program, "--resume", *options],
                env={
                    **os.environ,
                    "CUDA_VISIBLE_DEVICES": "",
                    "OMP_NUM_THREADS": "1",
                    "PYTHON": sys.executable,
                    "PYTHONPATH": python_path(*FOLDERS),
                },
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def end(self) -> int | None:
        """Wait; returns the exit status, None for a run that hangs."""
        try:
            return self.process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            return None

    def family(self) -> "list[int]":
        """The process and all that it started, and these started."""
        parents = {}
        for line in subprocess.check_output(["ps", "-eo", "pid=,ppid="], text=True).splitlines():
            pid, parent = map(int, line.split())
            parents.setdefault(parent, []).append(pid)
        found = [self.process.pid]
        for pid in found:
            found += parents.get(pid, [])
        return found


def still_there(pids: "list[int]", seconds: float = 60) -> "list[int]":
    """Which of the processes are left after so long; they are ended."""
    end = time.time() + seconds
    while True:
        states = subprocess.run(
            ["ps", "-o", "pid=,stat=", "-p", ",".join(map(str, pids))],
            capture_output=True,
            text=True,
        ).stdout.splitlines()
        left = [int(line.split()[0]) for line in states if "Z" not in line.split()[1]]
        if not left or time.time() > end:
            for pid in left:
                os.kill(pid, signal.SIGKILL)
            return left
        time.sleep(0.2)


def differences(folder: Path, other: Path) -> "list[str]":
    """Names of what two finished runs do not have in common."""
    try:
        ours, theirs = (torch.load(path / "epoch_4.pth") for path in (folder, other))
    except (OSError, RuntimeError) as error:
        return [str(error)]
    parts = ("state_dict", "optimizer", "param_schedulers", "image_buffers", "sampler_seed")
    files = ("results.json", "pyramid.png")
    return [part for part in parts if not same(ours[part], theirs[part])] + [
        name for name in files if (folder / name).read_bytes() != (other / name).read_bytes()
    ]


class Stress:
    """The counts, and what they are counted of."""

    def __init__(self, folder: Path, seed: int):
        self.folder = folder
        self.random = random.Random(seed)
        self.config = write_config(folder / "small.py", "spynco_demo.py", SETTINGS)
        self.counts: dict = {}
        self.wrong: list[str] = []
        self.reference: dict = {}

    def count(self, what: str, number: int = 1) -> None:
        self.counts[what] = self.counts.get(what, 0) + number

    def judge(self, what: str, fault: str) -> None:
        """Count something that went right (no fault) or wrong."""
        self.count(f"{what}, right" if not fault else f"{what}, wrong")
        if fault:
            self.wrong.append(f"{what}: {fault}")

    def uninterrupted(self, processes: int) -> "tuple[Path, float]":
        """The run to compare with, and the seconds that it took."""
        if processes not in self.reference:
            work_dir = self.folder / f"uninterrupted_{processes}"
            run = Run(self.config, work_dir, processes)
            if run.end() != 0:
                sys.exit(f"The run that nobody interrupts has failed: {run.log}")
            self.reference[processes] = work_dir, time.time() - run.start
        return self.reference[processes]

    def finish(self, what: str, work_dir: Path, processes: int, *options: str) -> None:
        """Let a run come to its end, and compare."""
        status = Run(self.config, work_dir, processes, *options).end()
        fault = f"{work_dir}.log: exit status {status}" if status else ""
        if not fault:
            found = differences(work_dir, self.uninterrupted(processes)[0])
            fault = f"{work_dir} differs in {', '.join(found)}" if found else ""
        self.judge(what, fault)
        if not fault:
            shutil.rmtree(work_dir)

    def chain(self, number: int, kills: int, processes: int) -> None:
        """One run, killed so many times."""
        work_dir = self.folder / f"chain_{number}"
        _, seconds = self.uninterrupted(processes)
        options = ["--cfg-options", *WORKERS] if number % 2 else []
        for _ in range(kills):
            run = Run(self.config, work_dir, processes, *options)
            time.sleep(self.random.uniform(0, seconds))
            family = run.family()
            if run.process.poll() is not None:
                self.count("kills that came after the end")
                break
            victim = self.random.choice(family[: processes + 1] if processes == 2 else family[:1])
            os.kill(victim, signal.SIGKILL)
            self.count("kills")
            left = still_there(family)
            run.end()
            self.judge("kills that end all processes", f"{left} stayed" if left else "")
        self.finish(f"chains of {processes} process(es)", work_dir, processes, *options)

    def starts(self, number: int) -> None:
        """Two processes that fork workers so many times."""
        store, logs = self.folder / "store", [self.folder / f"starts_{rank}.txt" for rank in (0, 1)]
        ranks = [
            Popen(
                [sys.executable, __file__, "--rank", str(rank), str(store), str(number)],
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                stdout=log.open("w"),
            )
            for rank, log in enumerate(logs)
        ]
        while any(rank.poll() is None for rank in ranks):
            time.sleep(0.5)
            if time.time() - max(log.stat().st_mtime for log in logs) > LIMIT:
                for rank in ranks:
                    rank.kill()
        for log in logs:
            lines = log.read_text().splitlines()
            self.count("starts of a data loader's workers", number)
            self.count("starts, right", lines.count("right"))
            self.count("forks that hung and were made again", lines.count("again"))
            if lines.count("right") != number:
                self.wrong.append(f"{log}: {number - lines.count('right')} starts were not right")

    def disk(self, number: int) -> None:
        """A run on a disk on which no file may be larger than a random size."""
        work_dir = self.folder / f"disk_{number}"
        whole, _ = self.uninterrupted(1)
        blocks = self.random.randrange(1, (whole / "epoch_4.pth").stat().st_size // 1024)
        run = Run(self.config, work_dir, 1, blocks=blocks)
        status, text = run.end(), run.log.read_text()
        sentence = [line for line in text.splitlines() if "could not be written" in line]
        fault = ""
        if status != 1 or len(sentence) != 1 or "Traceback" in text or "A file" in sentence[0]:
            fault = f"{run.log}: exit status {status}, {len(sentence)} sentence(s), {blocks} KiB"
        self.judge("full disks", fault)
        self.finish("runs after a full disk", work_dir, 1)


def rank(number: int, store: str, starts: int) -> None:
    """Exchange something and start workers, ``starts`` times; tell how each went."""
    import warnings

    from torch.utils.data import DataLoader

    from spynco_mm import compat

    def show(message, *_, **__):
        if "forked again" in str(message):
            print("again", flush=True)

    warnings.showwarning = show
    warnings.simplefilter("always")
    torch.distributed.init_process_group("gloo", f"file://{store}", rank=number, world_size=2)
    for _ in range(starts):
        # Many at once: each is given back by a thread of gloo, at a moment of its own.
        works = [torch.distributed.all_reduce(torch.ones(8), async_op=True) for _ in range(32)]
        for work in works:
            work.wait()
        del work, works
        loader = DataLoader(torch.arange(8), batch_size=2, num_workers=4, timeout=LIMIT)
        print("right" if torch.cat(list(loader)).tolist() == [*range(8)] else "wrong", flush=True)
    compat.leave_gloo()


def table(counts: dict) -> str:
    """The counts as Markdown."""
    return "\n".join(["| | |", "| :--- | ---: |", *(f"| {k} | {v} |" for k, v in counts.items())])


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--chains", type=int, default=20, help="runs that are killed")
    parser.add_argument("--kills", type=int, default=3, help="of each, at most")
    parser.add_argument("--processes", type=int, nargs="+", choices=[1, 2], default=[1, 2])
    parser.add_argument("--starts", type=int, default=200, help="of workers, in two processes")
    parser.add_argument("--disks", type=int, default=5, help="runs on a full disk")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--out", type=Path, default=Path("work_dirs/stress"), help="new folder")
    args = parser.parse_args()
    args.out = args.out.resolve()
    args.out.mkdir(parents=True)
    stress = Stress(args.out, args.seed)
    try:
        if args.starts:
            stress.starts(args.starts)
        for number in range(args.disks):
            stress.disk(number)
        for number in range(args.chains):
            stress.chain(number, args.kills, args.processes[number // 2 % len(args.processes)])
    except KeyboardInterrupt:
        print("Interrupted; these are the counts until then.")
    finally:
        result = dict(counts=stress.counts, wrong=stress.wrong)
        Path(args.out, "stress.json").write_text(json.dumps(result, indent=1) + "\n")
        print(table(stress.counts))
        print("\n".join(stress.wrong))
    return bool(stress.wrong)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--rank"]:
        rank(int(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
    else:
        sys.exit(main())
