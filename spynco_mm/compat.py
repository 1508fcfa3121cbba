"""Every upstream fault we work around, one function each.

A function looks whether its fault is present, mends it if so, and returns whether it did. Each can
go when the upstream thread named in it is closed and the fixed release is the oldest we support.
Those of hooks, and of what they make a run save, are in ``compat_hooks.py``, of import statements
in ``compat_imports.py``, of lists of names in ``compat_names.py``.
"""

import contextlib
import functools
import importlib
import importlib.util
import logging
import multiprocessing
import os
import signal
import socket
import sys
import types
import warnings
from collections.abc import Callable, Iterable
from importlib import metadata

import numpy as np
import torch
import torch.distributed
from packaging.specifiers import SpecifierSet
from packaging.version import Version
from torch import nn

from . import compat_hooks, compat_imports, compat_names
from .version import SUPPORTED


def _versions(names: Iterable) -> "dict[str, str]":
    """Those of these packages that are installed, with their versions."""
    found = {}
    for name in names:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def check_versions() -> None:
    """Stop with one sentence where mmagic and its family are missing or of another release."""
    for group in SUPPORTED:
        found = _versions(group)
        if not found:
            # Another build or fork: what brings the module has to be of the same releases.
            module, bounds = next(iter(group.items()))
            others = metadata.packages_distributions().get(module, ())
            found = _versions(others)
            group = {**group, **dict.fromkeys(found, bounds)}
        if any(SpecifierSet(group[n]).contains(v, prereleases=True) for n, v in found.items()):
            continue
        wanted = " or ".join(f"{name}{versions}" for name, versions in group.items())
        there = ", ".join(f"{n} {v} is installed" for n, v in found.items()) or "it is missing"
        raise ImportError(
            f"spynco_mm needs {wanted}, but {there}; "
            "pip install -c requirements/constraints.txt -e '.[lite]' gives a set that fits."
        )


def alias_numpy_bool8() -> bool:
    """Give NumPy 2 back the name ``np.bool8``, which ``mmagic.utils`` (1.2.0) uses on import.

    Can go when mmagic writes ``np.bool_``.
    """
    if hasattr(np, "bool8"):
        return False
    np.bool8 = np.bool_
    return True


class _MissingOps(types.ModuleType):
    """Stands for ``mmcv._ext``: every operator is there by name and says why it cannot run."""

    @staticmethod
    def get_compiler_version() -> str:
        return "n/a"  # as mmcv-lite reports to collect_env

    get_compiling_cuda_version = get_compiler_version

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)

        def missing(*args, **kwargs):
            raise RuntimeError(
                f"mmcv.ops needs the compiled operator '{name}', but those of this mmcv are "
                "missing or do not load; install the full mmcv that matches your torch and CUDA."
            )

        return missing


def stub_mmcv_ops() -> bool:
    """Let ``import mmagic`` succeed with mmcv-lite, or an mmcv whose operators do not load.

    mmagic imports ``mmcv.ops`` at start-up, though no translation model calls a compiled operator
    (https://github.com/open-mmlab/mmagic/issues/2040). With a full mmcv that works nothing is done.
    Can go when mmagic imports its operators lazily.
    """
    try:
        importlib.import_module("mmcv._ext")
    except ImportError:
        pass
    else:
        return False
    stub = _MissingOps("mmcv._ext")
    # pkgutil.find_loader, which mmcv uses to look for its operators, needs a spec.
    stub.__spec__ = importlib.util.spec_from_loader("mmcv._ext", loader=None)
    sys.modules["mmcv._ext"] = stub
    return True


def accept_newer_mmcv() -> bool:
    """Let mmagic be imported beside onedl-mmcv, whose releases begin at 2.3.

    ``import mmagic`` stops at mmcv 2.2 and later, though the image functions and layers that it
    uses are the same. It reads the version only there. Can go when mmagic raises its bound.
    """
    import mmcv

    if Version(mmcv.__version__) < Version("2.2") or "mmagic" in sys.modules:
        return False
    theirs, mmcv.__version__ = mmcv.__version__, "2.1.0"
    try:
        importlib.import_module("mmagic")
    finally:
        mmcv.__version__ = theirs
    return True


def _history_statistic(owner: type, name: str):
    """The only attribute access that an mmengine checkpoint needs: HistoryBuffer's statistics."""
    from mmengine.logging import HistoryBuffer

    if owner is not HistoryBuffer or name not in ("min", "max", "current", "mean"):
        raise ValueError(f"a checkpoint may not read the attribute '{name}' of {owner!r}")
    return getattr(owner, name)


def allow_mmengine_checkpoints() -> bool:
    """Let ``torch.load(weights_only=True)`` read the log history in mmengine's checkpoints.

    Since torch 2.6 that is the default, and resuming fails on ``HistoryBuffer``
    (https://github.com/open-mmlab/mmengine/issues/1655). Exactly what these checkpoints hold is
    allowed: the buffer, its four statistics and NumPy arrays of numbers; ``weights_only`` stays on.
    """
    from mmengine.logging import HistoryBuffer

    # NumPy 2 renamed the module; a checkpoint may come from either.
    names = ("numpy.core.multiarray", "numpy._core.multiarray")
    multiarray = importlib.import_module(names[np.__version__ >= "2"])
    dtypes = {type(np.dtype(kind)) for kind in "?bBhHiIlLqQefd"}
    torch.serialization.add_safe_globals(
        [
            HistoryBuffer,
            (_history_statistic, "builtins.getattr"),
            (_history_statistic, "__builtin__.getattr"),
            np.ndarray,
            np.dtype,
            *dtypes,
            *((multiarray._reconstruct, f"{name}._reconstruct") for name in names),
            *((multiarray.scalar, f"{name}.scalar") for name in names),
        ]
    )
    return True


class _CheckedTorch(types.ModuleType):
    """``torch`` for one module of mmengine, but with another ``load``."""

    def __init__(self, load: Callable):
        super().__init__("torch")
        self.load = load

    def __getattr__(self, name: str):
        return getattr(torch, name)


def load_checkpoints_with(read: Callable) -> bool:
    """Let mmengine read every checkpoint with one function of ours.

    mmengine 0.10 calls ``torch.load`` on files of any size and content, and for what comes from the
    network ``torch.hub.load_state_dict_from_url``, which switches ``weights_only`` off and so runs
    what the file says. All its ways in (``load_from``, ``resume``, ``init_cfg``, ``torchvision://``
    and so on) lie in one module, where these two names now lead to ``read``. Can go when mmengine
    has a loader that one can set.

    Args:
        read: From a path, an address or an open file, and ``map_location``, to the content.
    """
    from mmengine.dist import barrier, is_main_process
    from mmengine.runner import checkpoint

    def load_url(url, model_dir=None, map_location=None, progress=True):
        try:
            return read(url, map_location)
        except ValueError:
            # The other processes wait for the first one, and then find out for themselves.
            if is_main_process():
                barrier()
            raise

    checkpoint.torch = _CheckedTorch(read)
    checkpoint.load_url = load_url
    return True


def add_hook_to_all_runners(hook: type) -> bool:
    """Give every mmengine Runner a hook that no config need name, nor can leave out.

    mmengine has no other place where code of ours could run between its reading a checkpoint and
    its doing what the checkpoint says. Can go together with the hook.
    """
    from mmengine.runner import Runner

    register_hooks = Runner.register_hooks

    @functools.wraps(register_hooks)
    def register_all(self, default_hooks=None, custom_hooks=None):
        register_hooks(self, default_hooks, custom_hooks)
        self.register_hook(hook())

    Runner.register_hooks = register_all
    return True


def repair_generation_init_weights() -> bool:
    """Let mmagic's ``ResnetGenerator``, ``UnetGenerator`` and ``PatchDiscriminator`` initialise.

    ``generation_init_weights`` reports ``init_info`` for every module that carries mmengine's
    bookkeeping, but sets it for convolutions, linear layers and batch norm only, so CycleGAN and
    Pix2Pix crash before their first step (https://github.com/open-mmlab/mmagic/issues/2109). The
    bookkeeping is hidden meanwhile; whoever called reports for the whole network.
    """
    from mmagic.models.utils import generation_init_weights

    probe = nn.ReLU()
    probe._params_init_info = {}
    try:
        generation_init_weights(probe)
    except UnboundLocalError:
        pass
    else:
        return False

    @functools.wraps(generation_init_weights)
    def repaired(module: nn.Module, *args, **kwargs):
        hidden = [m for m in module.modules() if "_params_init_info" in vars(m)]
        records = [vars(m).pop("_params_init_info") for m in hidden]
        try:
            return generation_init_weights(module, *args, **kwargs)
        finally:
            for m, record in zip(hidden, records):
                m._params_init_info = record

    for name, place in list(sys.modules.items()):
        if name.startswith("mmagic.") and (
            vars(place).get("generation_init_weights") is generation_init_weights
        ):
            place.generation_init_weights = repaired
    return True


def time_any_evaluation() -> bool:
    """Let mmagic's ``IterTimerHook`` time mmengine's evaluation loops.

    In scope mmagic the name means mmagic's hook. After each ``window_size`` batches of an
    evaluation, 50 by default, it reads ``total_length``, which only mmagic's ``MultiValLoop`` and
    ``MultiTestLoop`` have, so a ``ValLoop`` of 50 batches ends the run with an ``AttributeError``.
    mmengine's loops get the attribute. Can go when mmagic asks for the dataloader's length there.
    """
    from mmengine.runner import TestLoop, ValLoop

    mended = False
    for loop in (ValLoop, TestLoop):
        if not hasattr(loop, "total_length"):
            loop.total_length = property(lambda self: len(self.dataloader))
            mended = True
    return mended


def average_gradients(parameters) -> None:
    """Replace each gradient by its mean over all processes, in one collective call."""
    grads = [p.grad for p in parameters if p.grad is not None]
    if not grads:
        return
    flat = torch.cat([g.reshape(-1) for g in grads])
    torch.distributed.all_reduce(flat)
    flat /= torch.distributed.get_world_size()
    for grad, mean in zip(grads, flat.split([g.numel() for g in grads])):
        grad.copy_(mean.view_as(grad))


def _step_on_mean_gradient(wrapper, **kwargs):
    # Before the wrapper's own step, so that a gradient scaler sees the same overflow on every rank.
    average_gradients(p for group in wrapper.optimizer.param_groups for p in group["params"])
    type(wrapper).step(wrapper, **kwargs)


def synchronize_translation_models() -> bool:
    """Make mmagic's CycleGAN and Pix2Pix average their gradients over all processes.

    They call their networks as ``self.generators.module[domain]`` and so around the forward of
    DistributedDataParallel, which then never reduces a gradient: every process trains a model of
    its own. Can go when mmagic routes these calls through the wrapper.
    """
    from mmagic.models import CycleGAN, Pix2Pix

    mended = False
    for model in (CycleGAN, Pix2Pix):
        if hasattr(model.train_step, "__wrapped__"):
            continue

        @functools.wraps(model.train_step)
        def train_step(self, data, optim_wrapper, _train_step=model.train_step):
            if torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1:
                for wrapper in optim_wrapper.values():
                    wrapper.step = functools.partial(_step_on_mean_gradient, wrapper)
            return _train_step(self, data, optim_wrapper)

        model.train_step = train_step
        mended = True
    return mended


def leave_in_evaluation(generator: type) -> bool:
    """Let mmagic's CycleGAN and Pix2Pix evaluate generators of this class in evaluation mode.

    Their ``forward_test`` has the whole model in training mode, for the sake of batch norm. But
    ours take any size, and bring their colours into range, in evaluation only. Can go when mmagic
    leaves the mode to who calls.
    """
    from mmagic.models import CycleGAN, Pix2Pix

    def forward_test(self, img, target_domain, **kwargs):
        modes = [(m, m.training) for m in self.modules() if isinstance(m, generator)]
        self.train()
        for module, mode in modes:
            module.train(mode)
        return dict(source=img, target=self.translation(img, target_domain, **kwargs))

    CycleGAN.forward_test = Pix2Pix.forward_test = forward_test
    return True


#: Seconds that a child may take from the fork to its first line of Python; it takes milliseconds.
FORK_SECONDS = 10.0


def fork_until_it_runs() -> bool:
    """Let ``os.fork``, and so every data loader, start a child anew that hangs before it runs.

    A native thread that attaches to Python holds the lock of the interpreter's list of threads for
    an instant. A process forked in that instant waits for the lock for ever, before its first line
    of Python (https://github.com/python/cpython/issues/112275). In a distributed run such threads
    are those of gloo or NCCL that give the tensors of a finished collective back. Beside a thread
    that does nothing else than attach, 85 of 300 forks of Python 3.11.7 hang.

    Here a child reports to its parent and waits for the answer before ``os.fork`` returns in it.
    One that does not report has done nothing yet, so it is ended and forked again. Can go when
    Python 3.12 is the oldest supported one: 3.10 has the fault for good, 3.11 until 3.11.10.
    """
    mended = sys.version_info >= (3, 11, 10) or not hasattr(os, "fork")
    if mended or hasattr(os.fork, "__wrapped__"):
        return False

    @functools.wraps(os.fork)
    def fork(_fork=os.fork) -> int:
        while True:
            ours, theirs = socket.socketpair()
            with ours, theirs:
                pid = _fork()
                if pid == 0:
                    ours.close()
                    with contextlib.suppress(OSError):
                        theirs.send(b".")
                        if theirs.recv(1):
                            return 0
                    os._exit(1)  # The parent gave up, or is gone.
                theirs.close()
                ours.settimeout(FORK_SECONDS)
                try:
                    if ours.recv(1):
                        ours.send(b".")
                    return pid
                except TimeoutError:
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)
            warnings.warn(
                "A forked process did not start (CPython issue 112275), so it was forked again; "
                "Python 3.11.10 and 3.12 do not have this fault.",
                RuntimeWarning,
                stacklevel=2,
            )

    os.fork = fork
    return True


def leave_gloo() -> None:
    """End a finished process of a CPU run at once, with exit status 0.

    With torch 2.14 one process in ten that used gloo aborts while the interpreter shuts down
    ("terminate called without an active exception"), after all its work is done, and torchrun then
    reports a failed run. Ten lines of plain torch reproduce it. Does nothing without gloo.
    """
    if not torch.distributed.is_initialized() or torch.distributed.get_backend() != "gloo":
        return
    torch.distributed.barrier()
    for worker in multiprocessing.active_children():  # else they notice it after five seconds
        worker.terminate()
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def before_mmagic() -> None:
    """What must be in place before mmagic can be imported."""
    alias_numpy_bool8()
    stub_mmcv_ops()
    compat_imports.stand_in_for_unused_packages()
    accept_newer_mmcv()
    allow_mmengine_checkpoints()
    fork_until_it_runs()


def after_mmagic() -> None:
    """What mends mmagic's own modules."""
    repair_generation_init_weights()
    time_any_evaluation()
    synchronize_translation_models()
    compat_hooks.name_weights_without_wrapper()
    compat_hooks.save_schedulers_as_data()
    compat_hooks.keep_random_states_while_visualizing()
    compat_hooks.show_samples_in_any_visualizer()
    compat_names.find_configs_by_name()
