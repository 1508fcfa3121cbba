"""Training and inference cost of SpyncoGan and its baselines, measured side by side.

Every model runs in a process of its own, through mmengine's Runner, and they take turns of a few
iterations, one process at a time. So whatever slows the machine down for some seconds slows all of
them. Ratios are taken turn by turn, and the memory of a process is that of its model alone.
"""

import multiprocessing
import os
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

import torch
import torch.nn.functional as F

from spynco_mm.apis import Colorizer, colorize_files, plan
from spynco_mm.datasets.photographs import PHOTOGRAPHS, photograph_path

from .contenders import Cell
from .worker import PARTS, train_in_turns

#: Rows and columns of the product whose rate counts as attainable: enough to fill the device.
PRODUCT = {"cpu": 2048, "cuda": 8192}

#: How long a process may take to end, its loader's processes included.
STOP_SECONDS = 20


class _Worker:
    """A model's process, seen from the parent.

    It is no daemon, which may have no processes of its own, such as a data loader's. It ends with
    its connection, and so with the parent, however that ends.
    """

    def __init__(self, name: str, cell: Cell):
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=train_in_turns, args=(theirs, name, cell))
        # mmengine would choose a GPU that it sees.
        hidden = dict(CUDA_VISIBLE_DEVICES="") if cell.device == "cpu" else {}
        with mock.patch.dict(os.environ, hidden):
            self.process.start()
        theirs.close()

    def receive(self):
        try:
            answer = self.connection.recv()
        except EOFError as error:
            raise RuntimeError("A process of the benchmark ended: out of memory?") from error
        if isinstance(answer, Exception):
            raise answer
        return answer

    def ask(self, *order):
        self.connection.send(order)
        return self.receive()

    def stop(self) -> None:
        self.connection.close()
        self.process.join(STOP_SECONDS)
        if self.process.is_alive():
            self.process.kill()
        self.process.join()


def attainable_rate(cell: Cell) -> float:
    """Floating-point operations per second of a large matrix product, the best of half a second.

    It is computed as a product and as a 1×1 convolution: on a CPU two libraries, of which one or
    the other is faster, depending on the processor; on a GPU, in float32, torch lets convolutions
    alone use tensor cores.
    """
    size = PRODUCT[cell.device]
    dtype = getattr(torch, cell.precision)
    before = torch.get_num_threads()
    torch.set_num_threads(cell.threads)
    a = torch.rand(size, size, device=cell.device, dtype=dtype)
    # Its rows as pixels, its columns as channels, which are last in memory. A dilation changes
    # nothing in a 1×1 convolution, but with a single thread torch leaves only a dilated one to
    # oneDNN.
    pixels, kernel = a.view(1, size, 1, size).permute(0, 3, 1, 2), a[..., None, None]
    dilation = 1 if cell.device == "cuda" else 2
    wait = torch.cuda.synchronize if cell.device == "cuda" else lambda: None
    best, end = float("inf"), time.perf_counter() + 0.5
    while best == float("inf") or time.perf_counter() < end:
        for product in (lambda: a @ a, lambda: F.conv2d(pixels, kernel, dilation=dilation)):
            start = time.perf_counter()
            product()
            wait()
            best = min(best, time.perf_counter() - start)
    torch.set_num_threads(before)
    return 2 * size**3 / best


def _spread(values: Sequence[float]) -> dict:
    """Median, minimum and maximum."""
    return dict(median=statistics.median(values), min=min(values), max=max(values))


def measure(
    models: Sequence[str],
    cell: Cell,
    rounds: int = 5,
    turn_seconds: float = 1.0,
    warmup: int = 6,
    progress: Callable[[str], None] = lambda text: None,
) -> dict:
    """Measure some models in one cell, interleaved.

    Args:
        models: Names out of :data:`CONTENDERS`; ratios are against the first.
        cell: Size, batch, device, precision and threads.
        rounds: Turns of each model. In each round every model has one turn.
        turn_seconds: Iterations in a turn: as many as fit, at least one.
        warmup: Iterations before the first turn, in which memory grows to what training needs.
        progress: Called with a line before each step.

    Returns:
        By model: ``iteration``, ``step``, ``inference`` (seconds; median, min, max), ``ratio`` and
        ``inference_ratio`` (of the model's time to the first one's, of each round), ``parts``
        (seconds an iteration), ``parameters``, ``flops`` (of an iteration, counted from the shapes
        of its convolutions and products), ``operations`` (that a training step calls of torch, but
        for views), ``peak_memory`` (bytes above those before the first iteration) and
        ``utilization`` (flops per second in relation to a large matrix product's). On a GPU also
        ``busy`` (seconds of a training step that it works), ``launches`` (of a training step) and
        ``graph_pool`` (bytes that CUDA graphs keep for themselves).
    """
    progress("starting the processes")
    workers = {}
    try:
        for name in models:
            workers[name] = _Worker(name, cell)
        for worker in workers.values():
            worker.receive()
        turns, batches = {}, {}
        for name, worker in workers.items():
            progress(f"warming up {name}")
            worker.ask("turn", warmup, False)
            seconds = worker.ask("turn", 1, False)["seconds"]
            turns[name] = max(1, round(turn_seconds / seconds))
            batches[name] = max(1, round(turn_seconds / 2 / worker.ask("inference", 1)))
        times, steps, inference = defaultdict(list), defaultdict(list), defaultdict(list)
        rates = []
        for index in range(rounds):
            progress(f"round {index + 1} of {rounds}")
            rates.append(attainable_rate(cell))
            for name, worker in workers.items():
                times[name].append(worker.ask("turn", turns[name], False)["seconds"])
                steps[name].append(worker.ask("step", (turns[name] + 1) // 2))
                inference[name].append(worker.ask("inference", batches[name]))
        results = {}
        for name, worker in workers.items():
            progress(f"looking into {name}")
            parts = worker.ask("turn", turns[name], True)["parts"]
            facts = worker.ask("facts")
            seconds = _spread(times[name])
            reference = models[0]
            results[name] = dict(
                iteration=seconds,
                ratio=_spread([a / b for a, b in zip(times[name], times[reference])]),
                step=_spread(steps[name]),
                inference=_spread(inference[name]),
                inference_ratio=_spread(
                    [a / b for a, b in zip(inference[name], inference[reference])]
                ),
                iterations=rounds * turns[name],
                parts={part: parts.get(part, 0.0) for part in PARTS},
                utilization=facts["flops"] / seconds["median"] / statistics.median(rates),
                **facts,
            )
        return results
    finally:
        for worker in workers.values():
            worker.stop()


def measure_colorize(checkpoint: str, cell: Cell, rounds: int = 3) -> dict:
    """End-to-end colorization of the embedded photographs, from files to files.

    Args:
        checkpoint: A trained model.
        cell: Device and threads; the photographs have sizes of their own.
        rounds: How often.

    Returns:
        ``megapixels_per_second`` and ``share_outside_network`` (median, min, max), and
        ``megapixels`` of one round.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(cell.threads)
    colorizer = Colorizer(checkpoint, device=cell.device)
    files = [str(photograph_path(name)) for name in PHOTOGRAPHS]
    reports = []
    with TemporaryDirectory() as folder:
        jobs = plan(files, Path(folder), colorizer.outputs, ".png")
        for _ in range(rounds + 1):  # the first one warms up
            reports.append(colorize_files(colorizer, jobs, overwrite=True, progress=False))
            if reports[-1].failed:
                raise RuntimeError(f"Colorizing failed: {reports[-1].failed}")
    torch.set_num_threads(before)
    return dict(
        checkpoint=Path(checkpoint).name,
        parameters=sum(p.numel() for p in colorizer.generator.parameters()),
        megapixels=reports[0].megapixels,
        megapixels_per_second=_spread([r.megapixels_per_second for r in reports[1:]]),
        share_outside_network=_spread([r.share_outside_network for r in reports[1:]]),
    )


def describe_machine(cell: Cell) -> dict:
    """What the numbers of a run depend on."""
    processor = "unknown"
    if cell.device == "cuda":
        processor = torch.cuda.get_device_name()
    elif Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        facts = {key.strip(): value.strip() for key, _, value in (x.partition(":") for x in lines)}
        if "model name" in facts:  # a virtual machine's is often the same for many generations
            family, model = (facts.get(key, "?") for key in ("cpu family", "model"))
            processor = f"{facts['model name']} (family {family}, model {model})"
    how = {key: value for key, value in asdict(cell).items() if key not in ("size", "batch")}
    return dict(processor=processor, torch=torch.__version__, **how)
