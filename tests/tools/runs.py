"""Small runs of the repository's own configs through its own tools."""

import os
import subprocess
import sys
from pathlib import Path

from mmengine.runner import Runner

from spynco_mm.engine import launch

ROOT = Path(__file__).parents[2]
# Where run_hooks is, and what it imports.
FOLDERS = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
sys.path[:0] = FOLDERS

from forked import Forked, python_path, ranks  # noqa: E402

CONFIG = """
_base_ = ["{base}"]
custom_imports = dict(imports=["spynco_mm", "run_hooks"], allow_failed_imports=False)
default_hooks = dict(dump=dict(type="DumpWeights"), logger=dict(interval=1))
model = dict(
    generator=dict(base_channels=4, num_blocks=1),
    discriminator=dict(channels=(4, 4, 8, 8)),
    # Small enough to be full after an epoch, so that it draws.
    buffer_size=6,
)
"""


def write_config(path: Path, base: str, more: str) -> Path:
    path.write_text(CONFIG.format(base=ROOT / "configs" / base) + more)
    return path


def tool(name, *arguments) -> Forked:
    """Run ``tools/<name>.py`` as a user would, but for the imports."""
    return Forked(ROOT / "tools" / f"{name}.py", *arguments)


def two_processes(name, *arguments) -> "list[Forked]":
    """The same as the two processes of a distributed run."""
    return ranks(ROOT / "tools" / f"{name}.py", *arguments, "--launcher", "pytorch")


def script(name, *arguments, **env) -> subprocess.CompletedProcess:
    """Run ``tools/<name>.sh``, or another file, as a user would."""
    return subprocess.run(
        ["bash", str((ROOT / "tools" / name).with_suffix(".sh")), *map(str, arguments)],
        env={
            **os.environ,
            "CUDA_VISIBLE_DEVICES": "",
            "PYTHON": sys.executable,
            "PYTHONPATH": python_path(*FOLDERS),
            **env,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )


def runner(config: Path, work_dir: Path, resume=None, **options) -> Runner:
    """The runner of ``tools/train.py``, in this process."""
    options = {key.replace("__", "."): value for key, value in options.items()}
    cfg = launch.load_config(str(config), str(work_dir), options)
    cfg.experiment_name = work_dir.as_posix()  # mmengine allows each name once in a process.
    if resume:
        launch.resume_from(cfg, str(resume))
    return Runner.from_cfg(cfg)
