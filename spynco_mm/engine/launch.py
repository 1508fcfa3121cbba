"""What a launch needs between the command line and mmengine's Runner."""

import os
import os.path as osp
import sys
from collections.abc import Sequence
from contextlib import contextmanager
from typing import Optional

import torch
import torch.distributed
from mmengine.config import Config

from .. import compat
from .checkpoint import latest_checkpoint


def load_config(
    path: str,
    work_dir: Optional[str] = None,
    cfg_options: Optional[dict] = None,
    launcher: str = "none",
) -> Config:
    """Read a config and set what every tool sets.

    Args:
        path: Config file.
        work_dir: Folder of the run; None for the config's, or ``work_dirs/<name of the config>``.
        cfg_options: Dotted keys and values that override the config's.
        launcher: ``none``, ``pytorch``, ``slurm`` or ``mpi``.
    """
    if not osp.isfile(path):
        raise FileNotFoundError(f"There is no config '{path}'; name one of configs/*.py.")
    cfg = Config.fromfile(path)
    if cfg_options:
        cfg.merge_from_dict(cfg_options)
    cfg.launcher = launcher
    cfg.work_dir = work_dir or cfg.get("work_dir") or osp.join("work_dirs", osp.basename(path)[:-3])
    if launcher != "none":
        _without_gpu(cfg)
    return cfg


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
    cfg.env_cfg.dist_cfg = dict(backend="gloo")
    cfg.model_wrapper_cfg.device_ids = None
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group(backend="gloo")


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
        kind = wrapper.get("type", "OptimWrapper")
        if kind not in ("OptimWrapper", "AmpOptimWrapper"):
            raise ValueError(
                f"--amp replaces OptimWrapper, but this config uses {kind}; choose the precision "
                "in the config."
            )
        wrapper.update(type="AmpOptimWrapper", dtype=dtype)
        if dtype == "float16":
            wrapper["loss_scale"] = "dynamic"
    if not wrappers:
        raise ValueError("--amp found no optimizer wrapper in this config.")


def resume_from(cfg: Config, checkpoint: str) -> None:
    """Continue a run.

    Args:
        cfg: Config of the run.
        checkpoint: A file, or ``auto`` for the newest one of the work directory; a work directory
            without any starts from the beginning.
    """
    if checkpoint == "auto":
        checkpoint = latest_checkpoint(cfg.work_dir)
        if checkpoint is None:
            print(f"No checkpoint in {cfg.work_dir} yet: starting from the beginning.")
            return
    elif not osp.isfile(checkpoint):
        raise FileNotFoundError(f"There is no checkpoint '{checkpoint}' to resume from.")
    cfg.resume = True
    cfg.load_from = checkpoint


@contextmanager
def one_sentence_errors(expected: Sequence[type] = (OSError, ValueError, FloatingPointError)):
    """Let a tool end with the sentence of an expected error, without its traceback.

    ``SPYNCO_TRACEBACK=1`` in the environment shows the traceback.
    """
    try:
        yield
    except tuple(expected) as error:
        if os.environ.get("SPYNCO_TRACEBACK") == "1":
            raise
        sys.stdout.flush()
        print(f"\n{type(error).__name__}: {error}", file=sys.stderr)
        print("(SPYNCO_TRACEBACK=1 shows where this came from.)", file=sys.stderr)
        # At once: waiting for other processes of the run would hide the sentence.
        os._exit(1) if torch.distributed.is_initialized() else sys.exit(1)
    compat.leave_gloo()
