"""What switches the captured step on and off in a real run, and what a run leaves with it."""

import copy
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import Runner
from simulated_gpu import simulate_graphs
from test_resume_hook import same

from spynco_mm.engine import CompileHook, CUDAGraphHook, launch
from spynco_mm.engine.cuda_graph_hook import obstacle

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
from small_models import batch, build, optimizers

CONFIGS = Path(__file__).parents[2] / "configs"
GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def runner(work_dir, resume=None, graph=True, **options):
    """The demo on a very narrow network: five iterations an epoch."""
    options = {
        "model.generator.base_channels": 4,
        "model.generator.num_blocks": 1,
        "model.discriminator.channels": (4, 4, 8, 8),
        "model.buffer_size": 6,
        "train_dataloader.batch_size": 4,
        "train_dataloader.dataset.crops_per_photo": 2,
        "train_cfg.max_epochs": 2,
        "train_cfg.val_interval": 5,
        "optim_wrapper.generator.clip_grad": dict(max_norm=1.0),
        "randomness.deterministic": True,
        "env_cfg.cudnn_benchmark": False,
        "default_hooks.cuda_graph.warmup": 2,
        "default_hooks.cuda_graph.enabled": graph,
        **{key.replace("__", "."): value for key, value in options.items()},
    }
    cfg = launch.load_config(str(CONFIGS / "spynco_demo.py"), str(work_dir), options)
    cfg.custom_hooks += [dict(type="mmengine.EMAHook", momentum=0.1)]
    cfg.experiment_name = str(work_dir)  # mmengine allows each name once in a process
    if resume:
        launch.resume_from(cfg, str(resume))
    return Runner.from_cfg(cfg)


@pytest.fixture
def train(tmp_path, monkeypatch):
    """Trains, and gives what was logged about graphs and the last checkpoint."""
    if not torch.cuda.is_available():
        simulate_graphs(monkeypatch)

    def run(name, **options):
        found = runner(tmp_path / name, **options)
        told = []
        log = found.logger.info
        found.logger.info = lambda text, *args: told.append(str(text)) or log(text, *args)
        found.train()
        torch.use_deterministic_algorithms(False)
        assert "update" not in vars(found.model)
        told = [text for text in told if "CUDA graph" in text]
        return told, torch.load(tmp_path / name / "epoch_2.pth")

    return run


PARTS = ("state_dict", "ema_state_dict", "optimizer", "param_schedulers", "image_buffers")


def scalars(checkpoint):
    """What LossHook handed on, iteration by iteration."""
    buffers = checkpoint["message_hub"]["log_scalars"]
    return {key: list(b.data[0]) for key, b in buffers.items() if "loss" in key or "norm" in key}


def test_a_run_with_graph_goes_on_as_if_it_had_never_stopped(train, tmp_path):
    """Also without one, since both leave the same kind of checkpoint."""
    told, whole = train("whole")
    assert told == [
        "Captured the training step as a CUDA graph, for batches of 4×1×32×32, 4×3×32×32."
    ]
    _, resumed = train("resumed", resume=tmp_path / "whole" / "epoch_1.pth")
    for part in PARTS:
        assert same(whole[part], resumed[part]), part
    assert scalars(whole) == scalars(resumed)
    assert len(scalars(whole)["train/grad_norm_g"]) == 10

    told, plain = train("plain", resume=tmp_path / "whole" / "epoch_1.pth", graph=False)
    assert not told
    for name, weight in plain["state_dict"].items():
        torch.testing.assert_close(weight, whole["state_dict"][name], atol=1e-4, rtol=1e-3)
    settings = [
        [{k: v for k, v in group.items() if k != "params"} for group in state["param_groups"]]
        for checkpoint in (plain, whole)
        for state in checkpoint["optimizer"].values()
    ]
    assert settings[:2] == settings[2:]


def stub(model, wrappers, **cfg):
    return SimpleNamespace(model=model, optim_wrapper=wrappers, cfg=cfg, hooks=[])


def test_nothing_is_against_it():
    model = build()
    assert obstacle(stub(model, adam(model)), model) is None


def adam(model, **options):
    return OptimWrapperDict(
        **{
            name: OptimWrapper(
                torch.optim.Adam(getattr(model, name).parameters()), **copy.deepcopy(options)
            )
            for name in ("generator", "discriminator")
        }
    )


class OtherWrapper(OptimWrapper):
    pass


def with_hook(model, kind):
    layer = model.generator.mapping if kind == "layer" else next(model.generator.parameters())
    register = layer.register_forward_hook if kind == "layer" else layer.register_hook
    register(lambda *args: None)
    return {}


@pytest.mark.parametrize(
    "prepare, sentence",
    [
        (lambda m: dict(cfg=dict(compile=True)), "the config's 'compile' compiles it as a whole"),
        (
            lambda m: dict(hooks=[CompileHook(mode="reduce-overhead")]),
            "the networks are compiled in a mode that captures graphs of its own",
        ),
        (lambda m: dict(hooks=[CompileHook(mode="default")]), None),
        (
            lambda m: dict(optim_wrapper=adam(m, accumulative_counts=2)),
            "generator: gradients are accumulated over 2 iterations",
        ),
        (
            lambda m: dict(
                optim_wrapper=adam(m, clip_grad=dict(max_norm=1, error_if_nonfinite=True))
            ),
            "generator: clip_grad with error_if_nonfinite waits for the norm",
        ),
        (
            lambda m: dict(optim_wrapper=optimizers(m)),
            "generator: SGD is not capturable; Adam is",
        ),
        (
            lambda m: dict(optim_wrapper=optimizers(m, cls=OtherWrapper)),
            "generator: OtherWrapper is no OptimWrapper or AmpOptimWrapper",
        ),
        (lambda m: with_hook(m, "layer"), "generator.mapping has hooks, which would be called"),
        (lambda m: with_hook(m, "weight"), "generator.encoder.0.conv.weight has hooks, which"),
    ],
)
def test_what_is_against_it(prepare, sentence):
    model = build()
    run = stub(model, adam(model))
    vars(run).update(prepare(model))
    found = obstacle(run, model)
    assert (found or "").startswith(sentence or "") and (found is None) == (sentence is None), found


def test_a_model_that_is_not_ours_is_told(tmp_path, monkeypatch):
    simulate_graphs(monkeypatch)
    model = torch.nn.Linear(1, 1)
    told = []
    run = stub(model, OptimWrapperDict())
    run.logger = SimpleNamespace(info=told.append)
    for enabled in (True, False):
        hook = CUDAGraphHook(enabled=enabled)
        hook.before_run(run)
        hook.before_train(run)
        hook.after_train(run)
    assert told == [
        "The training step is not captured as a CUDA graph: that is done for SpyncoGAN, not for "
        "Linear."
    ]
    with pytest.raises(ValueError, match="warmup must be at least 1, got 0"):
        CUDAGraphHook(warmup=0)


def test_the_option(monkeypatch):
    cfg = Config.fromfile(CONFIGS / "cyclegan_demo.py")
    launch.set_cuda_graph(cfg, "off")
    assert cfg.default_hooks.cuda_graph == dict(type="CUDAGraphHook", enabled=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="--cuda-graph on needs a GPU"):
        launch.set_cuda_graph(cfg, "on")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    other = Config(dict())
    launch.set_cuda_graph(other, "on")
    assert other.default_hooks.cuda_graph == dict(type="CUDAGraphHook", enabled=True)


@GPU
def test_nccl_is_captured(monkeypatch, tmp_path):
    """With one process: the collectives are in the graph, and the weights those without them."""
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    found = []
    for distributed in (False, True):
        if distributed:
            torch.distributed.init_process_group(
                "nccl", f"file://{tmp_path}/store", rank=0, world_size=1
            )
        try:
            model, told = build().cuda(), []
            wrappers = adam(model)
            for wrapper in wrappers.values():
                wrapper.optimizer.param_groups[0]["eps"] = 1e-3  # no steps of rounding errors
            hook = CUDAGraphHook(warmup=2)
            run = stub(model, wrappers)
            run.logger = SimpleNamespace(info=told.append)
            hook.before_run(run)
            hook.before_train(run)
            for i in range(6):
                model.train_step(batch(seed=i), wrappers)
            assert told[0].startswith("Captured"), told
            torch.cuda.synchronize()
            hook.after_train(run)
        finally:
            if distributed:
                torch.distributed.destroy_process_group()
        found.append({name: p.detach().clone() for name, p in model.named_parameters()})
    for name, weight in found[0].items():
        torch.testing.assert_close(found[1][name], weight, atol=1e-4, rtol=1e-3, msg=name)


@GPU
def test_wall_time_of_a_replay_is_not_that_of_its_launches(device="cuda"):
    """The point of it all, with a wide margin: a replay is at least twice as fast."""
    model = build().to(device)
    wrappers, told = adam(model), []
    hook = CUDAGraphHook(warmup=3)
    run = stub(model, wrappers)
    run.logger = SimpleNamespace(info=told.append)
    hook.before_run(run)
    seconds = {}
    for name in ("plain", "captured"):
        if name == "captured":
            hook.before_train(run)
        for i in range(15):
            if i == 5:
                torch.cuda.synchronize()
                start = torch.cuda.Event(enable_timing=True)
                end = torch.cuda.Event(enable_timing=True)
                start.record()
            model.train_step(batch(), wrappers)
        end.record()
        torch.cuda.synchronize()
        seconds[name] = start.elapsed_time(end)
    assert seconds["captured"] < seconds["plain"] / 2, seconds
