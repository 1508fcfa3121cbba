"""Networks that are compiled one by one, in real runs. The backend runs the graphs as they are:
they are the same with all backends, and generating their code would take a minute."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmagic.registry import HOOKS, MODELS
from mmengine.config import Config
from mmengine.runner import Runner

from spynco_mm.engine import CompileHook, launch
from spynco_mm.engine.compile_hook import networks

CONFIGS = Path(__file__).parents[2] / "configs"

SMALL = {
    "spynco": {
        "model.generator.base_channels": 4,
        "model.generator.num_blocks": 1,
        "model.discriminator.channels": (4, 4, 8, 8),
    },
    "cyclegan": {"model.generator.base_channels": 4, "model.discriminator.base_channels": 4},
}


def config(name, work_dir, **options):
    options = {
        **SMALL[name],
        "train_dataloader.batch_size": 4,
        "train_dataloader.dataset.crops_per_photo": 2,
        "train_cfg.max_epochs": 1,
        "train_cfg.val_interval": 2,
        **options,
    }
    return launch.load_config(str(CONFIGS / f"{name}_demo.py"), str(work_dir), options)


def train(cfg):
    """All weights after one epoch of five iterations."""
    cfg.experiment_name = cfg.work_dir  # mmengine allows each name once in a process
    runner = Runner.from_cfg(cfg)
    runner.train()
    torch.use_deterministic_algorithms(False)
    return runner.model.state_dict()


def test_names():
    ours, built_in = (
        MODELS.build(Config.fromfile(CONFIGS / f"{name}_demo.py").model) for name in SMALL
    )
    assert networks(ours) == dict(generator=ours.generator, discriminator=ours.discriminator)
    assert networks(built_in) == {
        f"{kind}.{domain}": getattr(built_in, kind)[domain]
        for kind in ("generators", "discriminators")
        for domain in ("gray", "color")
    }


@pytest.mark.parametrize("name", SMALL)
def test_training_compiled_is_training(name, tmp_path):
    plain = train(config(name, tmp_path / "plain"))
    cfg = config(name, tmp_path / "compiled")
    cfg.custom_hooks.append(dict(type="CompileHook", backend="eager"))
    torch._dynamo.utils.counters.clear()
    compiled = train(cfg)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] >= 2
    assert not torch._dynamo.utils.counters["graph_break"]
    assert compiled.keys() == plain.keys()  # so that either can go on from the other's checkpoint
    for key, weight in plain.items():
        torch.testing.assert_close(compiled[key], weight, rtol=1e-3, atol=1e-4)


def test_only_where_it_pays(monkeypatch, tmp_path):
    cfg = config("spynco", tmp_path, compile=True)
    launch.enable_compile(cfg, "auto")  # The config has decided.
    cfg = config("spynco", tmp_path)
    for mode in ("off", "auto"):
        launch.enable_compile(cfg, mode)  # There is no GPU.
    assert "CompileHook" not in [hook["type"] for hook in cfg.custom_hooks]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    own = Config(dict(custom_hooks=[dict(type=CompileHook)]))
    launch.enable_compile(own, "auto")  # This one has decided as well.
    assert len(own.custom_hooks) == 1
    launch.enable_compile(cfg, "auto")
    (settings,) = [hook for hook in cfg.custom_hooks if hook["type"] == "CompileHook"]
    hook, said = HOOKS.build(settings), []
    network = torch.nn.Linear(1, 1)
    runner = SimpleNamespace(
        model=torch.nn.ModuleDict(dict(g=network)),
        logger=SimpleNamespace(info=said.append),
        max_iters=launch.COMPILE_FROM + 50,
    )
    monkeypatch.setattr("spynco_mm.engine.compile_hook.has_triton", lambda: runner.triton)
    monkeypatch.setattr("shutil.which", lambda name: runner.compiler)
    monkeypatch.delenv("CC", raising=False)
    for runner.iter, runner.triton, runner.compiler in [
        (51, True, "gcc"),
        (50, False, "gcc"),
        (50, True, None),
        (50, True, "gcc"),
    ]:
        assert network._compiled_call_impl is None
        hook.before_train(runner)
    assert network._compiled_call_impl is not None
    reasons = ["9999 iterations to go are too few", "no Triton", "a C compiler", "in the first it"]
    assert all(reason in line for reason, line in zip(reasons, said, strict=True))


@pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without GPU")
@pytest.mark.parametrize("mode", launch.COMPILE_MODES[1:])
def test_cuda_graphs_need_a_gpu(mode, tmp_path):
    with pytest.raises(ValueError, match=f"--compile {mode} needs a GPU"):
        launch.enable_compile(config("spynco", tmp_path), mode)


def test_one_way_to_compile(tmp_path):
    with pytest.raises(ValueError, match="leave one of them out"):
        launch.enable_compile(config("spynco", tmp_path, compile=True), "default")
    cfg = config("spynco", tmp_path)
    launch.enable_compile(cfg, "default")
    assert cfg.custom_hooks[-1] == dict(type="CompileHook", mode="default")
