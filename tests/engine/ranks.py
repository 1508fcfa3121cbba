"""Some training steps of several models on one process, or on each of several.

    python -m torch.distributed.run --nproc_per_node=2 tests/engine/ranks.py FOLDER

writes the weights of every process after the steps of every scenario to FOLDER/<rank>.pth.
"""

import atexit
import os
import shutil
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2]))

import spynco_mm  # isort: skip  (before mmagic, so that it can be imported)
import numpy as np
import pytest
import torch
from mmagic.models import CycleGAN
from mmagic.registry import MODEL_WRAPPERS, MODELS
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.model import is_model_wrapper
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmengine.runner.checkpoint import _load_checkpoint
from simulated_gpu import simulate_graphs
from skimage import data
from tiny_run import tiny_runner

from spynco_mm.engine import CUDAGraphHook, LossHook
from spynco_mm.utils.checkpoint import CheckpointError
from spynco_mm.utils.console import _sentence

CONFIGS = Path(__file__).parents[2] / "configs"
STEPS, BATCH = 4, 4
NARROW = {
    "model.generator.base_channels": 4,
    "model.generator.num_blocks": 1,
    "model.discriminator.channels": (4, 4, 8, 8),
    # The pool draws at random on every process, so no process could see the same fakes as two do.
    "model.buffer_size": 0,
}
ONE_OUTPUT = {
    "model.generator.num_outputs": 1,
    **{
        f"model.{name}.weights": (1,)
        for name in (
            "identity_loss",
            "cycle_bab_loss",
            "cycle_aba_loss",
            "gan_loss",
            "contours_loss",
        )
    },
}
SGD = dict(_delete_=True, type="SGD", lr=0.01)
CYCLEGAN = dict(
    type="CycleGAN",
    generator=dict(
        type="ResnetGenerator",
        in_channels=3,
        out_channels=3,
        base_channels=4,
        num_blocks=1,
        norm_cfg=dict(type="IN"),
    ),
    discriminator=dict(
        type="PatchDiscriminator",
        in_channels=3,
        base_channels=4,
        num_conv=1,
        norm_cfg=dict(type="IN"),
    ),
    default_domain="color",
    reachable_domains=["color", "gray"],
    related_domains=["color", "gray"],
    data_preprocessor=dict(
        type="DataPreprocessor",
        mean=127.5,
        std=127.5,
        data_keys=["img_gray", "img_color"],
    ),
)
#: Name: config, overrides.
SCENARIOS = {
    "paper": ("spynco_cifar10", {}),
    # Adam would hide a gradient that is too large by a factor.
    "SGD": (
        "spynco_cifar10",
        {f"optim_wrapper.{name}.optimizer": SGD for name in ("generator", "discriminator")},
    ),
    "exact": ("spynco_exact_cifar10", {}),
    "accumulation": (
        "spynco_cifar10",
        {
            "optim_wrapper.generator.accumulative_counts": 2,
            "optim_wrapper.discriminator.accumulative_counts": 2,
        },
    ),
    # Three backward passes of G in a step, as for large batches.
    "parted": ("spynco_cifar10", {"model.joint_pixels": 0}),
    # The third and fourth step as a graph, with the collectives in it.
    "captured": ("spynco_cifar10", {}),
    "one output": ("spynco_cifar10", ONE_OUTPUT),
    # The discriminator has weights, is wrapped, and gets no gradient.
    "no GAN": ("spynco_cifar10", {"model.gan_loss": None}),
    "CycleGAN": (None, {}),
    "Col-Cycle": (
        None,
        dict(
            generator=dict(type="ColCycleGenerator", base_channels=4, num_blocks=1),
            discriminator=dict(type="SpyncoDiscriminator", channels=(4, 4, 8, 8)),
        ),
    ),
    "CycleGAN as it is in mmagic": (None, {}),
}


def batches(rank: int, world: int):
    """The part of ``STEPS`` union batches that a process sees: crops of a photograph, 32×32."""
    # Fur everywhere: in a constant region CycleGAN's ReLU would follow the sign of rounding errors.
    photo = torch.from_numpy(data.chelsea()).permute(2, 0, 1).double()
    rng = np.random.default_rng(0)
    for _ in range(STEPS):
        corners = rng.integers(0, 300 - 32, (2, BATCH, 2))
        color, other = (
            torch.stack([photo[:, y : y + 32, x : x + 32] for y, x in part]) for part in corners
        )
        gray = other.mean(1, keepdim=True).expand(-1, 3, -1, -1)
        yield {"inputs": {"img_gray": gray[rank::world], "img_color": color[rank::world]}}


def train(name: str, rank: int = 0, world: int = 1) -> dict:
    """The weights before and after the steps, in float64."""
    config, options = SCENARIOS[name]
    cfg = Config.fromfile(CONFIGS / f"{config or 'spynco_cifar10'}.py")
    if config is None:
        cfg.model = {**CYCLEGAN, **options}
        wrapper = dict(type="OptimWrapper", optimizer=dict(type="SGD", lr=0.01))
        cfg.optim_wrapper = dict(
            constructor="MultiOptimWrapperConstructor", generators=wrapper, discriminators=wrapper
        )
    else:
        cfg.merge_from_dict({**NARROW, **options})
    torch.manual_seed(0)  # The same first weights on one process as on rank 0 of two.
    model = MODELS.build(cfg.model)
    model.init_weights()
    if rank:  # The wrapper has to bring rank 0's.
        torch.nn.init.normal_(next(model.parameters()))
    model = network = model.double()
    if world > 1:
        cfg.model_wrapper_cfg.device_ids = None
        model = MODEL_WRAPPERS.build(cfg.model_wrapper_cfg, default_args=dict(module=network))
    start = {key: value.clone() for key, value in network.state_dict().items()}
    runner = SimpleNamespace(model=model, logger=None)
    wrappers = Runner.build_optim_wrapper(runner, cfg.optim_wrapper)
    for wrapper in wrappers.values():
        wrapper.initialize_count_status(network, 0, STEPS)
    step = model.train_step
    if name == "captured":
        return captured(model, network, wrappers, batches(rank, world), start)
    if "as it is" in name:
        step = CycleGAN.train_step.__wrapped__.__get__(network)
    for i, batch in enumerate(batches(rank, world)):
        MessageHub.get_current_instance().update_info("iter", i)  # CycleGAN asks for it.
        step(batch, wrappers)
    return difference(start, network.state_dict())


def difference(start: dict, end: dict) -> dict:
    """The weights before and after; the names of wrappers are in neither, nor in the versions."""
    assert not any("module" in name.split(".") for name in [*end, *end._metadata])
    return {key: (start[key], end[key]) for key in end}


def captured(model, network, wrappers, data, start: dict) -> dict:
    """The same steps, the last two as replays of a graph that has the collectives in it."""
    told = []
    runner = SimpleNamespace(
        model=model,
        optim_wrapper=wrappers,
        cfg={},
        hooks=[],
        logger=SimpleNamespace(info=told.append),
    )
    hook = CUDAGraphHook(warmup=STEPS - 2)
    with pytest.MonkeyPatch.context() as monkeypatch:
        graphs = simulate_graphs(monkeypatch)
        monkeypatch.setattr(torch.distributed, "get_backend", lambda: "nccl")
        hook.before_run(runner)
        hook.before_train(runner)
        for batch in data:
            network.train_step(batch, wrappers)
        hook.after_train(runner)
    assert [graph.replays for graph in graphs] == [2], told
    assert not any(map(is_model_wrapper, network.children()))
    return difference(start, network.state_dict())


def stopped_by(rank: int, folder: Path) -> str:
    """What LossHook says on this process when only process 1 has a bad loss."""
    hook = LossHook()
    runner = SimpleNamespace(
        hooks=[hook],
        iter=6,
        epoch=0,
        max_iters=100,
        work_dir=str(folder),
        train_dataloader=range(7),
        train_loop=None,
        message_hub=MessageHub.get_current_instance(),
    )
    hook.before_train(runner)
    value = float("inf") if rank == 1 else 1.0
    try:
        hook.after_train_iter(runner, 6, None, {"loss_g": torch.tensor(value)})
    except FloatingPointError as error:
        return str(error)
    return "nothing"


def averaged(rank: int, folder: Path) -> None:
    """Two epochs with averages of the weights, at once and resumed after the first.

    The epochs have three iterations, so that gradients are accumulated from one to the other.
    """
    averages = [
        dict(type="mmengine.EMAHook", momentum=0.1),
        dict(
            type="ExponentialMovingAverageHook",
            module_keys="generator_ema",
            interval=1,
            interp_cfg=dict(momentum=0.1),
        ),
    ]
    options = dict(
        hooks=averages,
        epochs=2,
        launcher="pytorch",
        env_cfg=dict(dist_cfg=dict(backend="gloo")),
        cfg=Config(
            dict(model_wrapper_cfg=dict(type="MMSeparateDistributedDataParallel", device_ids=None))
        ),
        optim_wrapper=dict(
            type="mmengine.OptimWrapper", accumulative_counts=2, optimizer=dict(type="SGD", lr=0.1)
        ),
    )
    tiny_runner(folder / "whole", **options).train()
    if rank == 0:
        (folder / "resumed").mkdir()
        shutil.copy(folder / "whole" / "epoch_1.pth", folder / "resumed")
    torch.distributed.barrier()
    tiny_runner(folder / "resumed", folder / "resumed" / "epoch_1.pth", **options).train()


def stuck(rank: int) -> str | None:
    """What a tool says on process 0 while process 1 is stopped."""
    pids = [None, None]
    torch.distributed.all_gather_object(pids, os.getpid())
    group = torch.distributed.new_group(timeout=timedelta(seconds=1))
    if rank == 1:
        os.kill(os.getpid(), signal.SIGSTOP)
        return None
    state = ["ps", "-o", "stat=", "-p", str(pids[1])]
    while not subprocess.check_output(state, text=True).startswith("T"):
        time.sleep(0.1)
    try:
        torch.distributed.all_reduce(torch.ones(1), group=group)
    except RuntimeError as error:
        return _sentence(error, "")
    finally:
        os.kill(pids[1], signal.SIGCONT)


def fetched(folder: Path) -> str:
    """What this process says of a checkpoint that only the first one tries to fetch."""
    torch.hub.set_dir(folder / "hub")
    try:
        _load_checkpoint("http://127.0.0.1:9/none.pth")
    except CheckpointError as error:
        return str(error)
    return "nothing"


def main() -> None:
    torch.distributed.init_process_group("gloo")
    init_default_scope("mmagic")
    rank, world = torch.distributed.get_rank(), torch.distributed.get_world_size()
    folder = Path(sys.argv[1])
    results = {name: train(name, rank, world) for name in SCENARIOS}
    results["stopped"] = stopped_by(rank, folder)
    results["stuck"] = stuck(rank)
    results["fetched"] = fetched(folder)
    torch.save(results, folder / f"{rank}.pth")
    averaged(rank, folder)
    atexit.register(print, "gloo is left behind")
    print("done", end="")
    spynco_mm.compat.leave_gloo()


if __name__ == "__main__":
    main()
