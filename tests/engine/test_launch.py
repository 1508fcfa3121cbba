import datetime
import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner

from spynco_mm.engine import launch, run_folder
from spynco_mm.utils.checkpoint import CheckpointError

DEMO = str(Path(__file__).parents[2] / "configs" / "spynco_demo.py")


# ---------------------------------------------------------------- configs


def test_work_dir_follows_the_config(tmp_path):
    config = tmp_path / "mine.v2.py"
    config.write_text("a = 1")
    assert launch.load_config(str(config)).work_dir == "work_dirs/mine.v2"
    config.write_text("work_dir = 'there'")
    assert launch.load_config(str(config)).work_dir == "there"
    assert launch.load_config(str(config), "elsewhere").work_dir == "elsewhere"


def test_how_long_processes_wait_for_each_other(monkeypatch):
    groups = []
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda **kw: groups.append(kw))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for options in ({}, {"env_cfg.dist_cfg.timeout": 7}):
        launch.load_config(DEMO, cfg_options=options, launcher="pytorch")
    assert groups == [
        dict(backend="gloo", timeout=datetime.timedelta(seconds=seconds)) for seconds in (600, 7)
    ]


ORTHO = dict(type="HandcraftedTranslation", weights="orthochromatic")
FILM = {
    "model.handcrafted_translation.weights": "orthochromatic",
    "train_dataloader.dataset.pipeline.2.weights": "orthochromatic",
    "val_dataloader.dataset.pipeline.0.weights": "orthochromatic",
    "test_dataloader.dataset.pipeline.0.weights": "orthochromatic",
    "val_evaluator.0.handcrafted_translation": ORTHO,
    "test_evaluator.0.handcrafted_translation": ORTHO,
}


@pytest.mark.parametrize("forgotten", FILM)
def test_one_translation_of_model_pictures_and_metric(forgotten):
    film = dict(FILM)
    launch.load_config(DEMO, cfg_options=film)
    del film[forgotten]
    with pytest.raises(ValueError, match=r"orthochromatic.*so give all the same weights") as error:
        launch.load_config(DEMO, cfg_options=film)
    assert forgotten.startswith("model") or f"The config: {forgotten}" in str(error.value)


@pytest.mark.parametrize(
    "key, value, sentence",
    [
        (
            "train_cfg.max_epochs",
            "ten",
            "max_epochs is a number (10), so it cannot be 'ten',",
        ),
        ("train_dataloader.batch_size", True, "it cannot be True, which is a bool."),
        ("train_dataloader.sampler.shuffle", "yes", "shuffle is a bool (True), so it cannot be"),
        ("custom_hooks.0.type", 3, "custom_hooks.0.type is a text ('LossHook'), so it cannot be 3"),
        ("model.discriminator.channels", 8, "channels is a list, so it cannot be 8, which is a nu"),
        ("train_cfg", 3, "train_cfg holds settings, type, max_epochs, val_interval; name one"),
        ("model.generator", "SpyncoGenerator", "model.generator holds settings, type, "),
    ],
)
def test_a_value_of_another_kind(key, value, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        launch.load_config(DEMO, cfg_options={key: value})


@pytest.mark.parametrize("key, value", [("max_epochs", 0), ("val_interval", -1)])
def test_a_length_that_no_training_has(key, value):
    sentence = f"train_cfg.{key} must be whole and at least 1, got {value}"
    with pytest.raises(ValueError, match=sentence):
        launch.load_config(DEMO, cfg_options={f"train_cfg.{key}": value})


def test_options_override(tmp_path):
    options = {
        "train_cfg.max_epochs": 2,
        "model.generator.consistency.type": "Other",  # a key that the config lacks
        "model.generator.norm_cfg": None,
        "visualizer.vis_backends.0.type": "TensorboardVisBackend",
        "randomness.deterministic": True,
        "auto_scale_lr.enable": False,
    }
    cfg = launch.load_config(DEMO, str(tmp_path), options)
    assert cfg.train_cfg.max_epochs == 2
    assert cfg.model.generator.consistency.type == "Other"
    assert cfg.visualizer.vis_backends[0].type == "TensorboardVisBackend"


@pytest.mark.parametrize(
    "key, sentence",
    [
        ("trainn_cfg.max_epochs", "no run reads 'trainn_cfg.max_epochs'; .* train_cfg,"),
        ("dataset.data_root", "no run reads 'dataset.data_root'; name train_dataloader.dataset"),
        ("alpha", "no run reads 'alpha'"),
        ("launcher", "no run reads 'launcher'"),
        ("test_pipeline.0.type", "no run reads 'test_pipeline.0.type'"),
        ("find_unused_parameters", "no run reads 'find_unused_parameters'; .* model_wrapper_cfg,"),
        ("param_scheduler.3.begin", "param_scheduler.3.begin"),
    ],
)
def test_options_that_nothing_reads(tmp_path, key, sentence):
    with pytest.raises(ValueError, match=f"--cfg-options.*{sentence}"):
        launch.load_config(DEMO, str(tmp_path), {key: 1})


@pytest.mark.parametrize(
    "key, known",
    [
        ("env_cfg.misspelt", "env_cfg are cudnn_benchmark, dist_cfg, mp_cfg, resource_limit."),
        ("env_cfg.dist_cfg.time_out", "settings of env_cfg.dist_cfg are .*, timeout,"),
        ("auto_scale_lr.base_batchsize", "auto_scale_lr are base_batch_size, enable."),
        ("model_wrapper_cfg.find_unused", "model_wrapper_cfg are .*, find_unused_parameters,"),
        ("test_cfg.misspelt", "test_cfg are fp16, type."),
        ("optim_wrapper.misspelt", "an optimizer for each of generator, discriminator."),
    ],
)
def test_settings_that_mmengine_would_not_notice(tmp_path, key, known):
    sentence = f"no run reads '{key}'; .*{known}"
    with pytest.raises(ValueError, match=sentence):
        launch.load_config(DEMO, str(tmp_path), {key: 1})
    config = tmp_path / "own.py"  # of a config as well
    outer, *inner = key.split(".")
    settings = 1
    for name in reversed(inner):
        settings = {name: settings}
    config.write_text(f"_base_ = [{DEMO!r}]\n{outer} = {settings}\n")
    with pytest.raises(ValueError, match=sentence):
        launch.load_config(str(config))


def test_configs_by_name(tmp_path):
    cfg = launch.load_config("spynco_mm::spynco_demo.py")
    assert cfg.filename.endswith("configs/spynco_demo.py")
    assert cfg.work_dir == "work_dirs/spynco_demo"
    with pytest.raises(FileNotFoundError, match=r"spynco_mm::none'; near it are spynco_mm::"):
        launch.load_config("spynco_mm::none")


def test_broken_configs(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no config 'none.py'"):
        launch.load_config("none.py")
    config = tmp_path / "broken.py"
    config.write_text("a = [")
    with pytest.raises(ValueError, match=r"broken\.py, or a config that it inherits, is no Python"):
        launch.load_config(str(config))
    config.write_text("_base_ = ['./none.py']")
    with pytest.raises(OSError, match=r"none\.py"):
        launch.load_config(str(config))


def test_distributed_without_gpu_needs_gloo(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"'slurm' needs GPUs.*tools/dist_train.sh"):
        launch.load_config(DEMO, launcher="slurm")


# ---------------------------------------------------------------- AMP


def test_amp_without_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="--amp needs a GPU"):
        launch.enable_amp(Config.fromfile(DEMO), "bfloat16")


def test_amp_changes_every_wrapper(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    cfg = Config.fromfile(DEMO)
    launch.enable_amp(cfg, "float16")
    for name in ("generator", "discriminator"):
        wrapper = cfg.optim_wrapper[name]
        assert (wrapper.type, wrapper.dtype, wrapper.loss_scale) == (
            "AmpOptimWrapper",
            "float16",
            "dynamic",
        )
    # As in mmagic's CycleGAN configs, where mmagic's own flag does nothing.
    wrapper = dict(type=OptimWrapper, optimizer=dict(type="Adam"))
    cfg = Config(dict(optim_wrapper=dict(generators=wrapper)))
    launch.enable_amp(cfg, "bfloat16")
    assert cfg.optim_wrapper.generators.type == "AmpOptimWrapper"
    # It has the range of float32, so no loss is scaled, which a CUDA graph could not have in it.
    assert cfg.optim_wrapper.generators.loss_scale == dict(enabled=False)
    for wrapper, sentence in (
        (dict(type="ApexOptimWrapper", optimizer=dict(type="Adam")), "uses ApexOptimWrapper"),
        (dict(constructor="Mine"), "found no optimizer wrapper"),
    ):
        with pytest.raises(ValueError, match=sentence):
            launch.enable_amp(Config(dict(optim_wrapper=wrapper)), "float16")


# ---------------------------------------------------------------- data


def test_a_config_without_data():
    for split in ("train", "test"):
        sentence = f"no {split}_dataloader, so there is nothing to {split}"
        with pytest.raises(ValueError, match=sentence):
            launch.check_split(Config(dict()), split)
        launch.check_split(Config.fromfile(DEMO), split)


def test_data_smaller_than_a_batch(tmp_path):
    options = {
        "train_dataloader.batch_size": 50,
        "train_dataloader.dataset.crops_per_photo": 4,
        "model.generator.base_channels": 4,
    }
    cfg = launch.load_config(DEMO, str(tmp_path), options)
    cfg.experiment_name = str(tmp_path)
    with pytest.raises(ValueError, match=r"has 40 images.*less than one batch of 50; lower"):
        launch.check_train_data(Runner.from_cfg(cfg))


# ---------------------------------------------------------------- checkpoints


def test_a_checkpoint_is_read_before_anything_is_built(trap, tmp_path):
    path = str(tmp_path / "evil.pth")
    torch.save(dict(state_dict={}, meta=trap), path)
    with pytest.raises(CheckpointError, match=r"evil\.pth: it holds more than weights"):
        launch.resume_from(Config(dict()), path)
    with pytest.raises(CheckpointError, match=r"evil\.pth: it holds more than weights"):
        launch.load_config(DEMO, str(tmp_path), dict(load_from=path))
    assert not trap.folder.exists()


def test_resume_auto(tmp_path, capsys, monkeypatch):
    cfg = Config(dict(work_dir=str(tmp_path)))
    launch.resume_from(cfg, "auto")
    assert "starting from the beginning" in capsys.readouterr().out
    assert "resume" not in cfg
    with monkeypatch.context() as second:  # of two processes
        second.setenv("RANK", "1")
        launch.resume_from(Config(dict(work_dir=str(tmp_path), launcher="pytorch")), "auto")
        assert capsys.readouterr().out == ""
    for name in ("epoch_9", "epoch_10", "best_G1_MSE_epoch_11", "epoch_x"):
        torch.save({}, tmp_path / f"{name}.pth")
    (tmp_path / "epoch_12.pth.part").touch()
    (tmp_path / "last_checkpoint").write_text(str(tmp_path / "epoch_9.pth"))
    read = []
    for module in (launch, run_folder):
        monkeypatch.setattr(module, "read_checkpoint", lambda path: read.append(path) or {})
    launch.resume_from(cfg, "auto")
    assert cfg.resume and cfg.load_from == str(tmp_path / "epoch_10.pth")
    assert read == [tmp_path / "epoch_10.pth"]  # once, to see that it can be
