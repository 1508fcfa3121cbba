"""What a launch needs between the command line and mmengine's Runner."""

import argparse
import datetime
import inspect
import os
import os.path as osp
import re
import warnings
from collections.abc import Iterator, Sequence
from typing import IO, Any

import torch
import torch.distributed
from mmengine.config import Config
from mmengine.runner import Runner

from ..compat_names import PACKAGE, config_path
from ..models.translations import HandcraftedTranslation
from ..utils.checkpoint import read_checkpoint, type_name
from ..utils.files import PathLike, lock_folder
from .run_folder import resume_point

#: What a run reads of a config, beside the arguments of ``Runner``. Other names of our configs,
#: such as ``alpha``, are read by configs only, which build their settings of them.
READ = {
    *("model_wrapper_cfg", "find_unused_parameters", "sync_bn", "compile"),
    *("activation_checkpointing", "efficient_conv_bn_eval"),
}

#: What is read of settings whose misspelt names mmengine does not notice: those that it takes apart
#: by name, and those that only tests or runs of several processes read.
READ_INSIDE = {
    "env_cfg": {"cudnn_benchmark", "mp_cfg", "dist_cfg", "resource_limit"},
    "env_cfg.dist_cfg": {
        *("init_backend", "port"),
        *inspect.signature(torch.distributed.init_process_group).parameters,
    },
    "auto_scale_lr": {"enable", "base_batch_size"},
    "test_cfg": {"type", "fp16"},
    "model_wrapper_cfg": {
        *("type", "detect_anomalous_params"),
        *inspect.signature(torch.nn.parallel.DistributedDataParallel).parameters,
    },
}

#: Where launchers say which process this is.
RANKS = {"pytorch": "RANK", "slurm": "SLURM_PROCID", "mpi": "OMPI_COMM_WORLD_RANK"}

#: Modes of ``torch.compile`` to choose from; all but the first record CUDA graphs.
COMPILE_MODES = ("default", "reduce-overhead", "max-autotune")

#: Iterations from which on compiling pays. On an H200 it took 40 s and made 7.2 ms of a step of
#: 15.6 ms (32×32, batch 32, captured), and so was worth it from 5000 on; that step has since got
#: less to gain from it.
COMPILE_FROM = 10000


def load_config(
    path: PathLike,
    work_dir: str | None = None,
    cfg_options: dict | None = None,
    launcher: str = "none",
) -> Config:
    """Read a config and set what every tool sets.

    Args:
        path: Config file, or the name of one of ours, such as ``spynco_mm::spynco_demo.py``.
        work_dir: Folder of the run; None for the config's, or ``work_dirs/<name of the config>``.
        cfg_options: Dotted keys and values that override the config's.
        launcher: ``none``, ``pytorch``, ``slurm`` or ``mpi``.

    Raises:
        OSError, ValueError: The config is not there, or an option would have no effect.
    """
    path = os.fspath(path)
    if path.startswith(f"{PACKAGE}::"):
        path = str(config_path(path))
    if not osp.isfile(path):
        raise FileNotFoundError(
            f"There is no config '{path}'; name a file, or one of ours, as {PACKAGE}::spynco_demo."
        )
    try:
        cfg = Config.fromfile(path)
    except SyntaxError as error:
        raise ValueError(f"{path}, or a config that it inherits, is no Python: {error}.") from error
    _override(cfg, cfg_options or {})
    _check_inside(cfg)
    _check_translations(cfg)
    cfg.launcher = launcher
    name = osp.splitext(osp.basename(path))[0]
    cfg.work_dir = work_dir or cfg.get("work_dir") or osp.join("work_dirs", name)
    if cfg.get("load_from"):
        check_checkpoint(cfg.load_from)
    if launcher != "none":
        # Once per process and network, about an argument that mmengine passes on.
        warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
        _set_wrapper(cfg)
        _without_gpu(cfg)
    return cfg


def _override(cfg: Config, options: dict) -> None:
    """``--cfg-options``, where a key that nothing reads is an error.

    On the first level, a misspelt name, or one that a config has used already to build its
    settings, changes nothing. Below, what gets the setting refuses one that it does not know, or
    :func:`_check_inside` does.
    """
    read = (READ | set(inspect.signature(Runner).parameters)) - {"cfg", "launcher"}
    if cfg.get("model_wrapper_cfg"):
        read -= {"find_unused_parameters"}  # It is one of the wrapper's.
    for key in options:
        first = key.partition(".")[0]
        if first == "dataset":
            places = ", ".join(f"{split}_dataloader.{key}" for split in ("train", "val", "test"))
            raise ValueError(f"--cfg-options: no run reads '{key}'; name {places}.")
        if first not in read:
            raise ValueError(
                f"--cfg-options: no run reads '{key}'; settings start with one of "
                f"{', '.join(sorted(read & set(cfg)))}."
            )
        _check_kind(cfg, key, options[key])
    try:
        cfg.merge_from_dict(options)
    except (KeyError, TypeError, AssertionError) as error:
        raise ValueError(f"--cfg-options {' '.join(options)}: {error.args[0]}") from error


def _check_inside(cfg: Config) -> None:
    """Refuse settings, of a config or of ``--cfg-options``, that mmengine would not notice."""
    for name, known in READ_INSIDE.items():
        settings = cfg
        for part in name.split("."):
            settings = settings.get(part) or {}
        kind = str(settings.get("type", ""))
        if kind and not re.search("DistributedDataParallel|^(Multi)?TestLoop$", kind):
            continue  # Somebody's own wrapper or loop has arguments of its own.
        # Where 'mmagic::' bases are registered, mmengine notes in each of their settings.
        if unknown := sorted(set(settings) - known - {"_scope_"}):
            raise ValueError(
                f"The config: no run reads '{name}.{unknown[0]}'; settings of {name} are "
                f"{', '.join(sorted(known))}."
            )
    for name in ("max_epochs", "max_iters", "val_interval"):
        number = (cfg.get("train_cfg") or {}).get(name, 1)
        if not isinstance(number, int) or number < 1:
            raise ValueError(
                f"The config: train_cfg.{name} must be whole and at least 1, got {number}."
            )
    wrapper = cfg.get("optim_wrapper") or {}
    if wrapper.get("constructor") == "MultiOptimWrapperConstructor" and "modules" not in wrapper:
        networks = [name for name, settings in wrapper.items() if isinstance(settings, dict)]
        if unknown := sorted({*wrapper} - {*networks, "constructor"}):
            raise ValueError(
                f"The config: no run reads 'optim_wrapper.{unknown[0]}'; optim_wrapper has the "
                f"settings of an optimizer for each of {', '.join(networks)}."
            )


#: The class of the transform that is registered as HandcraftedTranslation.
TRANSFORM = "HandcraftedTranslationTransform"


def _translations(settings: Any, where: str) -> Iterator[tuple[str, Any]]:
    """The weights of every H_t of the pipelines and metrics in settings, with their names there."""
    if isinstance(settings, dict):
        kind = type_name(settings.get("type"))
        if kind == "ColorizationMetric":
            where += ".handcrafted_translation"
            settings = settings.get("handcrafted_translation", {})
        if kind in ("ColorizationMetric", "HandcraftedTranslation", TRANSFORM):
            yield f"{where}.weights", settings.get("weights", "bt601")
            return
        settings = settings.items()
    else:
        settings = enumerate(settings) if isinstance(settings, (list, tuple)) else ()
    for name, value in settings:
        yield from _translations(value, f"{where}.{name}")


def _check_translations(cfg: Config) -> None:
    """Refuse another H_t of the pictures or their evaluation than the model's."""
    model = cfg.get("model") or {}
    if type_name(model.get("type")) != "SpyncoGAN":
        return
    ours = model.get("handcrafted_translation", dict(type="HandcraftedTranslation"))
    if type_name(ours.get("type")) != "HandcraftedTranslation":
        return  # Somebody's own.
    ours = ours.get("weights", "bt601")
    wanted = HandcraftedTranslation(ours).weight
    for split in ("train", "val", "test"):
        for part in (f"{split}_dataloader", f"{split}_evaluator"):
            for name, weights in _translations(cfg.get(part), part):
                if not torch.equal(HandcraftedTranslation(weights).weight, wanted):
                    raise ValueError(
                        f"The config: {name} is {weights!r}, but that of the model's "
                        f"handcrafted_translation {ours!r}; pictures, model and metric need the "
                        "same H_t, so give all the same weights."
                    )


def _check_kind(cfg: Config, key: str, value: Any) -> None:
    """Refuse a text for a number and the like, which would fail deep inside of what gets it."""
    before = cfg
    for name in key.split("."):
        try:
            before = before[int(name) if isinstance(before, (list, tuple)) else name]
        except (LookupError, TypeError, ValueError):
            return  # The config does not have it.
    kinds = {bool: "a bool", (int, float): "a number", str: "a text", (list, tuple): "a list"}
    ours = next((kind for kind in kinds if isinstance(before, kind)), None)
    theirs = next((kind for kind in kinds if isinstance(value, kind)), None)
    if isinstance(before, dict) and ("." not in key or "type" in before) and theirs:
        raise ValueError(
            f"--cfg-options: {key} holds settings, {', '.join(map(str, before))}; name one of them."
        )
    # A list may stand where one value does, as for a size.
    if theirs not in (None, ours, (list, tuple)) and ours is not None:
        now = "" if ours == (list, tuple) else f" ({before!r})"
        raise ValueError(
            f"--cfg-options: {key} is {kinds[ours]}{now}, so it cannot be {value!r}, which is "
            f"{kinds[theirs]}."
        )


def _set_wrapper(cfg: Config) -> None:
    """Name what wraps the model, where the config leaves it to mmengine.

    Its ``MMDistributedDataParallel`` cannot train with several optimizers.
    """
    if not cfg.get("model_wrapper_cfg"):  # what mmengine takes without one
        unused = cfg.get("find_unused_parameters", False)
        cfg.model_wrapper_cfg = dict(broadcast_buffers=False, find_unused_parameters=unused)
    parts = (cfg.get("optim_wrapper") or {}).values()
    if any(isinstance(part, dict) and "optimizer" in part for part in parts):
        cfg.model_wrapper_cfg.setdefault("type", "MMSeparateDistributedDataParallel")


def _without_gpu(cfg: Config) -> None:
    """Prepare a distributed run on CPU: gloo, and no device that the wrapper could pin.

    mmengine would call ``torch.cuda.set_device`` and pass ``device_ids=[LOCAL_RANK]``.
    """
    if torch.cuda.is_available():
        return
    if cfg.launcher != "pytorch":
        raise ValueError(
            f"Launching with '{cfg.launcher}' needs GPUs, and this machine has none; use "
            "tools/dist_train.sh, which runs on CPU as well."
        )
    dist_cfg = cfg.setdefault("env_cfg", {}).setdefault("dist_cfg", {})
    dist_cfg["backend"] = "gloo"
    cfg.model_wrapper_cfg.device_ids = None
    if not torch.distributed.is_initialized():
        seconds = dist_cfg.get("timeout")
        timeout = seconds and datetime.timedelta(seconds=seconds)
        torch.distributed.init_process_group(backend="gloo", timeout=timeout)


def enable_amp(cfg: Config, dtype: str) -> None:
    """Train in mixed precision: every optimizer wrapper becomes an ``AmpOptimWrapper``.

    Args:
        cfg: Config of the run.
        dtype: ``float16``, with a loss scale, or ``bfloat16``.

    Raises:
        ValueError: Where it would have no effect: without a GPU, or on wrappers of another type.
    """
    if not torch.cuda.is_available():
        raise ValueError("--amp needs a GPU, and torch sees none; leave it out.")
    wrappers = [cfg.optim_wrapper, *cfg.optim_wrapper.values()]
    wrappers = [w for w in wrappers if isinstance(w, dict) and "optimizer" in w]
    for wrapper in wrappers:
        kind = type_name(wrapper.get("type", "OptimWrapper"))
        if kind not in ("OptimWrapper", "AmpOptimWrapper"):
            raise ValueError(
                f"--amp replaces OptimWrapper, but this config uses {kind}; choose the precision "
                "in the config."
            )
        wrapper.update(type="AmpOptimWrapper", dtype=dtype)
        # bfloat16 has the range of float32.
        wrapper["loss_scale"] = "dynamic" if dtype == "float16" else dict(enabled=False)
    if not wrappers:
        raise ValueError("--amp found no optimizer wrapper in this config.")


def add_compile_argument(
    parser: argparse.ArgumentParser, modes: Sequence[str] = ("auto", "off", *COMPILE_MODES)
) -> None:
    """The option ``--compile [MODE]``, for :func:`enable_compile`; by default the mode ``auto``."""
    auto = "auto" in modes
    parser.add_argument(
        "--compile",
        nargs="?",
        const=COMPILE_MODES[0],
        default="auto" if auto else None,
        choices=modes,
        help="torch.compile each network; reduce-overhead and max-autotune record CUDA graphs"
        + ("; auto, the default: where it pays, on a GPU in a long run" if auto else ""),
    )


def enable_compile(cfg: Config, mode: str) -> None:
    """Compile every network by itself: a ``CompileHook`` more.

    Args:
        cfg: Config of the run.
        mode: One of :data:`COMPILE_MODES`; or ``off``, or ``auto``, which on a GPU leaves it to
            the length of the run, unless the config says something about compiling.

    Raises:
        ValueError: CUDA graphs are asked for without a GPU, or the config compiles by itself.
    """
    hooks = list(cfg.get("custom_hooks") or [])
    if mode == "auto":
        decided = cfg.get("compile") or "CompileHook" in [type_name(h["type"]) for h in hooks]
        if torch.cuda.is_available() and not decided:
            cfg.custom_hooks = [*hooks, dict(type="CompileHook", min_iters=COMPILE_FROM)]
        return
    if mode == "off":
        return
    if mode != COMPILE_MODES[0] and not torch.cuda.is_available():
        raise ValueError(f"--compile {mode} needs a GPU, and torch sees none; use --compile.")
    if cfg.get("compile"):
        raise ValueError(
            "--compile compiles each network, and the config's 'compile' the whole training step; "
            "leave one of them out."
        )
    cfg.custom_hooks = [*hooks, dict(type="CompileHook", mode=mode)]


def set_cuda_graph(cfg: Config, setting: str) -> None:
    """Switch a run's ``CUDAGraphHook`` on or off.

    Args:
        cfg: Config of the run.
        setting: ``on`` or ``off``.

    Raises:
        ValueError: It would be on, but there is no GPU.
    """
    if setting == "on" and not torch.cuda.is_available():
        raise ValueError("--cuda-graph on needs a GPU, and torch sees none; leave it out.")
    hook = dict(type="CUDAGraphHook", enabled=setting == "on")
    cfg.merge_from_dict(dict(default_hooks=dict(cuda_graph=hook)))


def check_checkpoint(path: str) -> None:
    """Read a checkpoint before anything is built, so that a bad one is named at once.

    One behind an address is read where it is needed, after one process has fetched it.

    Raises:
        CheckpointError: It cannot be used.
    """
    if "://" not in str(path):
        read_checkpoint(path)


def lock_work_dir(cfg: Config) -> IO | None:
    """Keep the work directory for this run, so that no other mixes its files with this one's.

    Returns:
        What holds it until it is closed or the process ends; None in all but the first process.

    Raises:
        ValueError: Another run has it.
    """
    return lock_folder(cfg.work_dir) if _is_first(cfg) else None


def _is_first(cfg: Config) -> bool:
    """Whether this is the first of the processes that a launcher started, or the only one."""
    return int(os.environ.get(RANKS.get(cfg.get("launcher"), ""), 0)) == 0


def resume_from(cfg: Config, checkpoint: str) -> None:
    """Continue a run.

    Args:
        cfg: Config of the run.
        checkpoint: A file or its address, or ``auto`` for the newest one that the present run of
            the work directory has written; a run without any starts from the beginning.
    """
    if checkpoint == "auto":
        checkpoint, others = resume_point(cfg.work_dir)
        sentences = []
        if others:
            sentences.append(
                f"Left out, since another run in {cfg.work_dir} wrote it: {', '.join(others)}."
            )
        if checkpoint is None:
            sentences.append(f"No checkpoint in {cfg.work_dir} yet: starting from the beginning.")
        if sentences and _is_first(cfg):
            print("\n".join(sentences), flush=True)
        if checkpoint is None:
            return
    else:
        check_checkpoint(checkpoint)
    cfg.resume = True
    cfg.load_from = str(checkpoint)


def check_split(cfg: Config, split: str) -> None:
    """Refuse a config that has no data for what it is to be used for.

    Args:
        cfg: Config of the run.
        split: ``train`` or ``test``.

    Raises:
        ValueError: It has none.
    """
    if not cfg.get(f"{split}_dataloader"):
        raise ValueError(f"The config has no {split}_dataloader, so there is nothing to {split}.")


def check_train_data(runner: Runner) -> None:
    """Refuse a data set too small for one batch, which would be trained on for no iteration.

    Raises:
        ValueError: There is no batch.
    """
    loader = runner.train_dataloader
    if not len(loader):
        raise ValueError(
            f"The training set has {len(loader.dataset)} images, {len(loader.sampler)} of them for "
            f"each of {runner.world_size} process(es), which is less than one batch of "
            f"{loader.batch_size}; lower train_dataloader.batch_size."
        )
