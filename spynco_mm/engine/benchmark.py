"""Training and inference cost of SpyncoGan and its baselines, measured side by side.

Every model runs in a process of its own, through mmengine's Runner, and only one of them at a time:
they take turns of a few iterations. So the machine's moods hit all alike, ratios are taken turn by
turn, and each process's memory is its model's alone.
"""

import functools
import multiprocessing
import os
import statistics
import time
import traceback
import warnings
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.utils.flop_counter import FlopCounterMode

from spynco_mm.models.layers import as_pixels, conv1x1

from .compile_hook import networks
from .launch import ROOT, enable_amp, enable_compile

_PLAIN_ADAM = {"optimizer.fused": False}

#: Config and overrides of each model. The keys of optimizers are filled in for both networks.
MODELS = {
    "spynco": ("spynco_cifar10.py", {}),
    "spynco_exact": ("spynco_exact_cifar10.py", {}),
    "spynco_naive": (
        "spynco_cifar10.py",
        {
            "model.fast": False,
            "model.generator.fast": False,
            "model.discriminator.fast": False,
            **_PLAIN_ADAM,
        },
    ),
    "colcycle": ("colcycle_cifar10.py", {}),
    # As in mmagic's own configs: 9 blocks at every size, identity weight 0.5, plain Adam.
    "cyclegan": (
        "cyclegan_cifar10.py",
        {
            "model.generator.num_blocks": 9,
            "model.loss_config.id_loss_weight": 0.5,
            **_PLAIN_ADAM,
        },
    ),
    "cyclegan_6blocks": ("cyclegan_cifar10.py", {"model.generator.num_blocks": 6}),
}

#: Photographs that are large enough to be cropped without reduction.
_PHOTOS = ("china", "flower", "coffee", "rocket", "retina")

#: What an iteration's time is divided into. "losses" is the rest of the training step, with
#: preprocessing and image pools, and "other" is the runner with its hooks.
PARTS = ("data", "generator", "discriminator", "losses", "backward", "optimizer", "other")


@dataclass(frozen=True)
class Cell:
    """What is measured at once: a size (pixels, square), a batch, and how they are computed."""

    size: int
    batch: int
    device: str = "cpu"
    precision: str = "float32"
    threads: int = 2
    compile: str | None = None  # mode of torch.compile

    def __str__(self) -> str:
        return f"{self.size}×{self.size}, batch {self.batch}"


def model_config(name: str, cell: Cell, work_dir: str) -> Config:
    """The config of a model of :data:`MODELS` on crops of the embedded photographs."""
    file, overrides = MODELS[name]
    cfg = Config.fromfile(ROOT / "configs" / file)
    for key, value in overrides.items():
        networks = cfg.optim_wrapper if key.startswith("optimizer.") else {}
        keys = [f"optim_wrapper.{n}.{key}" for n in networks if n != "constructor"] or [key]
        cfg.merge_from_dict(dict.fromkeys(keys, value))
    cfg.work_dir = work_dir
    cfg.train_dataloader.update(
        batch_size=cell.batch,
        # On two cores workers would compete with the training; a GPU leaves them room.
        num_workers=4 if cell.device == "cuda" else 0,
        persistent_workers=cell.device == "cuda",
        dataset=dict(
            type="EmbeddedPhotographs",
            photos=_PHOTOS,
            crop_size=cell.size,
            short_side=None,
            crops_per_photo=200 * cell.batch,
            pipeline=cfg.train_dataloader.dataset.pipeline,
        ),
    )
    # Only training is measured.
    for split in ("val", "test"):
        for part in ("dataloader", "evaluator", "cfg"):
            cfg[f"{split}_{part}"] = None
    cfg.train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=10**6)
    cfg.default_hooks.checkpoint = None
    cfg.custom_hooks = [hook for hook in cfg.custom_hooks if hook["type"] == "LossHook"]
    if cell.precision != "float32":
        enable_amp(cfg, cell.precision)
    if cell.compile:
        enable_compile(cfg, cell.compile)
    return cfg


# ------------------------------------------------------------------------------ one process


def _status(key: str) -> int:
    """``VmRSS`` or ``VmHWM`` of this process, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise OSError("This system does not tell a process's memory in /proc/self/status.")


class _TurnHook(Hook):
    """Runs iterations when the parent says so, and answers with what they cost."""

    priority = "LOWEST"  # after the logging, which is part of an iteration

    def __init__(self, connection, cell: Cell):
        self.connection = connection
        self.cell = cell
        self.left = 0
        self.parts: dict | None = None

    def _now(self) -> float:
        if self.cell.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def before_train(self, runner: Runner) -> None:
        """Note the memory before the first iteration."""
        if self.cell.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
            self.memory = torch.cuda.memory_allocated()
        else:
            Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
            self.memory = _status("VmRSS")
        self._instrument(runner)
        self._wait(runner)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        """Note the time of an iteration; at the end of a turn, answer."""
        # Within a turn the GPU is not waited for, as in a real run; the last iteration waits.
        self.left -= 1
        now = self._now() if self.parts is not None or not self.left else time.perf_counter()
        self.last = now
        if self.left:
            return
        self.batch = data_batch
        total = now - self.start
        answer = dict(seconds=total / self.count)
        if self.parts is not None:
            parts = {key: value / self.count for key, value in self.parts.items()}
            step = ("generator", "discriminator", "backward", "optimizer")
            parts["losses"] -= sum(parts.get(part, 0.0) for part in step)
            parts["other"] = answer["seconds"] - sum(parts.values())
            answer["parts"] = parts
        self.connection.send(answer)
        self._wait(runner)

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        """The data have arrived."""
        if self.parts is not None:
            self.parts["data"] += time.perf_counter() - self.last

    def _wait(self, runner: Runner) -> None:
        """Do what the parent asks for, until that is a turn."""
        while True:
            order, *arguments = self.connection.recv()
            if order == "turn":
                break
            self.connection.send(getattr(self, f"_{order}")(runner, *arguments))
        self.count, instrumented = arguments
        self.left = self.count
        self.parts = defaultdict(float) if instrumented else None
        self.start = self.last = self._now()

    # ------------------------------------------------------------------ what can be asked for

    def _facts(self, runner: Runner) -> dict:
        """What does not depend on the clock."""
        model = runner.model
        cuda = self.cell.device == "cuda"
        peak = torch.cuda.max_memory_allocated() if cuda else _status("VmHWM")
        # Of the layers as they are when nothing is compiled.
        train_step = torch.compiler.disable(model.train_step)
        with FlopCounterMode(display=False) as counter:
            train_step(self.batch, optim_wrapper=runner.optim_wrapper)
        return dict(
            parameters=sum(p.numel() for p in model.parameters() if p.requires_grad),
            flops=counter.get_total_flops(),
            peak_memory=peak - self.memory,
        )

    def _step(self, runner: Runner, count: int) -> float:
        """Seconds per training step, of the batch before, without loader and hooks."""
        start = self._now()
        for _ in range(count):
            runner.model.train_step(self.batch, optim_wrapper=runner.optim_wrapper)
        return (self._now() - start) / count

    @torch.no_grad()
    def _inference(self, runner: Runner, count: int) -> float:
        """Seconds per batch of grey-to-colour inference, final output only."""
        model = runner.model.eval()
        image = torch.rand(self.cell.batch, 3, self.cell.size, self.cell.size)
        image = (2 * image[:, :1] - 1).expand_as(image).to(self.cell.device)
        start = self._now()
        for _ in range(count):
            model.translation(image, target_domain="color")
        seconds = (self._now() - start) / count
        model.train()
        return seconds

    def _instrument(self, runner: Runner) -> None:
        """Let training steps, and in them forward, backward and optimizer, add to ``parts``."""
        model = runner.model

        def timed(part: str, function: Callable) -> Callable:
            @functools.wraps(function)
            def call(*args, **kwargs):
                if self.parts is None:
                    return function(*args, **kwargs)
                start = self._now()
                result = function(*args, **kwargs)
                self.parts[part] += self._now() - start
                return result

            return call

        for name, network in networks(model).items():
            # Around the compiled network, if it is one, and not inside of it.
            call = network._compiled_call_impl or network._call_impl
            network._compiled_call_impl = timed(name.partition(".")[0].rstrip("s"), call)
        model.train_step = timed("losses", model.train_step)
        for wrapper in runner.optim_wrapper.values():
            wrapper.backward = timed("backward", wrapper.backward)
            wrapper.step = timed("optimizer", wrapper.step)


def _process(connection, name: str, cell: Cell) -> None:
    """Train a model in turns."""
    torch.set_num_threads(cell.threads)
    # mmengine takes the start method of this process for the one of its data loader.
    warnings.filterwarnings("ignore", "Multi-processing start method")
    try:
        with TemporaryDirectory() as work_dir:
            cfg = model_config(name, cell, work_dir)
            cfg.log_level = "WARNING"
            runner = Runner.from_cfg(cfg)
            runner.register_hook(_TurnHook(connection, cell))
            connection.send("ready")
            with suppress(EOFError):
                runner.train()
    except Exception as error:
        connection.send(RuntimeError(f"{name} at {cell}: {error!r}\n{traceback.format_exc()}"))


# -------------------------------------------------------------------------------- the parent


class _Worker:
    """A model's process, seen from the parent."""

    def __init__(self, name: str, cell: Cell):
        if cell.device == "cpu":
            os.environ["CUDA_VISIBLE_DEVICES"] = ""  # for mmengine, which would choose a GPU
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_process, args=(theirs, name, cell), daemon=True)
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
        if self.process.is_alive():
            self.process.kill()
        self.process.join()
        self.connection.close()


def attainable_rate(cell: Cell, size: int = 2048, seconds: float = 0.5) -> float:
    """Floating-point operations per second of a large matrix product, the best of several.

    It is computed as a product and as a 1×1 convolution: on a CPU two libraries, of which one or
    the other is faster, depending on the processor.
    """
    dtype = getattr(torch, cell.precision)
    before = torch.get_num_threads()
    torch.set_num_threads(cell.threads)
    a = torch.rand(size, size, device=cell.device, dtype=dtype)
    wait = torch.cuda.synchronize if cell.device == "cuda" else lambda: None
    best, end = float("inf"), time.perf_counter() + seconds
    while best == float("inf") or time.perf_counter() < end:
        for product in (lambda: a @ a, lambda: conv1x1(as_pixels(a), a)):
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
        models: Names out of :data:`MODELS`; ratios are against the first.
        cell: Size, batch, device, precision and threads.
        rounds: Turns of each model. In each round every model has one turn.
        turn_seconds: Iterations in a turn: as many as fit, at least one.
        warmup: Iterations before the first turn, in which memory grows to what training needs.
        progress: Called with a line before each step.

    Returns:
        By model: ``iteration``, ``step``, ``inference`` (seconds; median, min, max), ``ratio`` and
        ``inference_ratio`` (of the model's time to the first one's, of each round), ``parts``
        (seconds an iteration), ``parameters``, ``flops`` (of an iteration, counted from the shapes
        of its convolutions and products), ``peak_memory`` (bytes above those before the first
        iteration) and ``utilization`` (flops per second in relation to a large matrix product's).
    """
    progress("starting the processes")
    workers = {name: _Worker(name, cell) for name in models}
    try:
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
    from spynco_mm.apis import Colorizer, colorize_files, plan
    from spynco_mm.datasets.photographs import PHOTOGRAPHS, photograph_path

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


def format_table(results: dict) -> str:
    """Markdown: a row per cell and model.

    Args:
        results: ``machine`` and ``cells``, as the tool writes them.
    """
    lines = [
        "| size | batch | model | iteration (ms) | ratio | its step (ms) | inference (ms) | ratio "
        "| peak memory (MiB) | parameters (M) | GFLOP | of attainable |",
        "| ---: | ---: | :--- |" + " ---: |" * 9,
    ]
    for cell in results["cells"]:
        for name, row in cell["models"].items():
            cells = (
                cell["size"],
                cell["batch"],
                name,
                _range(row["iteration"], 1e3, ".1f"),
                _range(row["ratio"], 1, ".2f"),
                _range(row["step"], 1e3, ".1f"),
                _range(row["inference"], 1e3, ".1f"),
                _range(row["inference_ratio"], 1, ".2f"),
                f"{row['peak_memory'] / 2**20:.0f}",
                f"{row['parameters'] / 1e6:.3f}",
                f"{row['flops'] / 1e9:.1f}",
                f"{row['utilization']:.0%}",
            )
            lines.append(f"| {' | '.join(map(str, cells))} |")
    machine = results["machine"]
    compiled = f", networks compiled ({machine['compile']})" if machine["compile"] else ""
    lines += [
        "",
        f"{machine['processor']}, torch {machine['torch']}, {machine['device']}, "
        f"{machine['precision']}, {machine['threads']} threads{compiled}. Iterations run through "
        "mmengine's Runner, data and logging included, steps are the model's part alone. Medians "
        "(minimum to maximum) over turns; ratios are to the first model, turn by turn. Memory is "
        "what training adds to the process. GFLOP are of an iteration's convolutions and products; "
        "attainable is the rate of a 2048×2048 product by the faster of torch's libraries.",
        "",
        "| size | batch | model | " + " | ".join(PARTS) + " |",
        "| ---: | ---: | :--- |" + " ---: |" * len(PARTS),
    ]
    for cell in results["cells"]:
        for name, row in cell["models"].items():
            total = sum(row["parts"].values())
            shares = " | ".join(f"{row['parts'][part] / total:.0%}" for part in PARTS)
            lines.append(f"| {cell['size']} | {cell['batch']} | {name} | {shares} |")
    if "colorize" in results:
        row = results["colorize"]
        lines += [
            "",
            f"Colorize, {row['parameters'] / 1e6:.3f} M parameters, {row['megapixels']:.2f} "
            "megapixels of photographs from files to files: "
            f"{_range(row['megapixels_per_second'], 1, '.2f')} megapixels per second, "
            f"{_range(row['share_outside_network'], 100, '.0f')} % of the time outside "
            "the network.",
        ]
    return "\n".join(lines)


def _range(spread: dict, scale: float, form: str) -> str:
    median, low, high = (format(spread[key] * scale, form) for key in ("median", "min", "max"))
    return f"{median} ({low} to {high})"
