"""A contender in a process of its own, which trains when it is told to."""

import functools
import time
import traceback
import warnings
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn
from torch.autograd import DeviceType
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from spynco_mm.engine.compile_hook import networks

from .contenders import Cell, model_config

#: What an iteration's time is divided into. "losses" is the rest of the training step, with
#: preprocessing and image pools, and "other" is the runner with its hooks.
PARTS = ("data", "generator", "discriminator", "losses", "backward", "optimizer", "other")


def _memory(key: str) -> int:
    """``VmRSS`` or ``VmHWM`` of this process, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise OSError("This system does not tell a process's memory in /proc/self/status.")


class _Operations(TorchDispatchMode):
    """Counts what is called of torch, but for views and what only makes room."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += not (function.is_view or "empty" in str(function))
        return function(*args, **(kwargs or {}))


def _without_graph(model: nn.Module) -> dict:
    """Let a model compute its steps by itself.

    Returns:
        What :class:`~spynco_mm.engine.CUDAGraphHook` had put in its place, to be put back.
    """
    return {key: model.__dict__.pop(key) for key in ("update",) if key in model.__dict__}


class TurnHook(Hook):
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
            self.memory = _memory("VmRSS")
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
            runner.model.__dict__.update(self.captured)
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
        if instrumented:
            self.captured = _without_graph(runner.model)
        self.start = self.last = self._now()

    # ------------------------------------------------------------------ what can be asked for

    def _facts(self, runner: Runner) -> dict:
        """What does not depend on the clock."""
        model = runner.model
        cuda = self.cell.device == "cuda"
        peak = torch.cuda.max_memory_allocated() if cuda else _memory("VmHWM")
        # Of the layers as they are when nothing is compiled.
        train_step = torch.compiler.disable(model.train_step)
        captured = _without_graph(model)
        with FlopCounterMode(display=False) as counter, _Operations() as operations:
            train_step(self.batch, optim_wrapper=runner.optim_wrapper)
        model.__dict__.update(captured)
        return dict(
            parameters=sum(p.numel() for p in model.parameters() if p.requires_grad),
            flops=counter.get_total_flops(),
            operations=operations.count,
            peak_memory=peak - self.memory,
            **(self._launches(runner) if cuda else {}),
        )

    def _launches(self, runner: Runner, count: int = 3) -> dict:
        """What a GPU does in a training step, the kernels of a CUDA graph included."""
        activities = [torch.profiler.ProfilerActivity.CUDA]
        with torch.profiler.profile(activities=activities) as profile:
            self._step(runner, count)
        events = [e for e in profile.key_averages() if e.device_type == DeviceType.CUDA]
        pools = [part for part in torch.cuda.memory_snapshot() if any(part["segment_pool_id"])]
        return dict(
            busy=sum(e.self_device_time_total for e in events) / count / 1e6,
            launches=round(sum(e.count for e in events) / count),
            graph_pool=sum(part["total_size"] for part in pools),
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


def train_in_turns(connection, name: str, cell: Cell) -> None:
    """Train a model in turns."""
    torch.set_num_threads(cell.threads)
    # mmengine takes the start method of this process for the one of its data loader.
    warnings.filterwarnings("ignore", "Multi-processing start method")
    try:
        with TemporaryDirectory() as work_dir:
            cfg = model_config(name, cell, work_dir)
            cfg.log_level = "WARNING"
            runner = Runner.from_cfg(cfg)
            runner.register_hook(TurnHook(connection, cell))
            connection.send("ready")
            with suppress(EOFError, BrokenPipeError):  # The parent ended, or wants us to.
                runner.train()
    except Exception as error:
        with suppress(BrokenPipeError):
            sentence = f"{name} at {cell}: {error!r}\n{traceback.format_exc()}"
            connection.send(RuntimeError(sentence))
