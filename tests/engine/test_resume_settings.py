"""A run of four epochs, resumed after two with other settings."""

import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from interruptions import same
from mmagic.registry import HOOKS
from mmengine.hooks import Hook

sys.path.insert(0, str(Path(__file__).parents[1] / "datasets"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
from cifar10_files import write_cifar10
from mmengine.optim.optimizer import amp_optimizer_wrapper
from runs import runner, write_config
from tiny_run import checkpoint, tiny_runner

MORE = """
loader = dict(num_workers=0, persistent_workers=False, dataset=dict(data_root="{root}"))
train_dataloader = dict(batch_size=8, **loader)  # 40 pictures, 5 batches
val_dataloader = dict(**loader)
train_cfg = dict(max_epochs=4, val_interval=4)
default_hooks = dict(checkpoint=dict(max_keep_ckpts=-1, save_best=None))
custom_hooks = [dict(type="LossHook"), dict(type="ExactResumeHook"), dict(type="RecordRates")]
"""
LR = 2e-4


def schedule(iterations, constant, lr=LR):
    """The rates of a run that never stops: linear from an iteration on, 0 in the last one."""
    last = iterations - 1
    return [lr * min(1, (last - i) / (last - constant)) for i in range(iterations)]


def close(rates):
    return pytest.approx(rates, abs=1e-12)


@HOOKS.register_module()
class RecordRates(Hook):
    def __init__(self):
        self.rates = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        assert runner.iter == runner.epoch * len(runner.train_dataloader) + batch_idx
        self.rates.append(tuple(lr[0] for lr in runner.optim_wrapper.get_lr().values()))


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cifar10")
    write_cifar10(folder / "cifar-10-batches-py", per_file=8)
    return write_config(folder / "small.py", "spynco_cifar10.py", MORE.format(root=folder))


def train(config, folder, **options):
    """The rates of generator and discriminator in each iteration, and what was warned of."""
    run = runner(config, folder, **options)
    warnings = []
    run.logger.warning = lambda text, *args: warnings.append(str(text))
    run.train()
    torch.use_deterministic_algorithms(False)
    (record,) = (hook for hook in run.hooks if isinstance(hook, RecordRates))
    generator, discriminator = zip(*record.rates) if record.rates else ((), ())
    # base_param_settings of mmengine's are in get_lr as well.
    assert generator == discriminator
    return list(generator), [line for line in warnings if "other settings" in line]


@pytest.fixture(scope="module")
def whole(config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return folder, train(config, folder)[0]


@pytest.mark.parametrize(
    "options, iterations, rates, words",
    [
        (
            dict(train_cfg__max_epochs=6, train_dataloader__batch_size=20),
            2,
            (12, 6),
            ["max epochs 4 then, 6 now", "iterations per epoch 5 then, 2 now"],
        ),
        (
            dict(
                train_dataloader__batch_size=4,
                optim_wrapper__generator__optimizer__lr=1e-3,
                optim_wrapper__discriminator__optimizer__lr=1e-3,
            ),
            10,
            (40, 20, 1e-3),
            ["batch size 8 then, 4 now", "generator lr 0.0002 then, 0.001 now", "discriminator lr"],
        ),
        (
            dict(param_scheduler__0__constant_for=0.25),
            5,
            (20, 5),
            ["generator schedule in iterations"],
        ),
    ],
)
def test_the_rates_of_the_config_go_on(config, whole, tmp_path, options, iterations, rates, words):
    """As in a run with these settings that had never stopped."""
    resumed, (line,) = train(config, tmp_path, resume=whole[0] / "epoch_2.pth", **options)
    assert resumed == close(schedule(*rates)[2 * iterations :])
    assert resumed[-1] == 0 and resumed[0] > 0
    assert all(word in line for word in words)
    settings = torch.load(tmp_path / "epoch_4.pth")["meta"]["settings"]
    assert settings["iterations_per_epoch"] == iterations


def test_a_finished_run_is_made_longer(config, whole, tmp_path):
    assert whole[1] == close(schedule(20, 10))
    rates, _ = train(config, tmp_path, resume=whole[0] / "epoch_4.pth", train_cfg__max_epochs=6)
    assert rates == close(schedule(30, 15)[20:])


def test_checkpoints_without_the_settings(config, whole, tmp_path):
    """Of earlier versions: what is told by the config inside and the log. Others of an optimizer
    are the config's.
    """
    checkpoint = torch.load(whole[0] / "epoch_2.pth")
    del checkpoint["meta"]["settings"]
    torch.save(checkpoint, tmp_path / "epoch_2.pth")
    options = dict(
        train_dataloader__batch_size=4, optim_wrapper__generator__optimizer__betas=(0.9, 0.99)
    )
    rates, (line,) = train(config, tmp_path / "run", resume=tmp_path / "epoch_2.pth", **options)
    assert len(rates) == 20 and rates[-1] == 0
    assert "batch size 8 then, 4 now" in line and "iterations per epoch 5 then, 10 now" in line
    optimizers = torch.load(tmp_path / "run" / "epoch_4.pth")["optimizer"]
    assert optimizers["generator"]["param_groups"][0]["betas"] == (0.9, 0.99)
    assert optimizers["discriminator"]["param_groups"][0]["betas"] == (0.5, 0.999)


PLATEAU = [dict(type="ReduceOnPlateauLR", monitor="G1/MSE", patience=0)]


def test_what_is_not_well_defined_is_refused(config, whole, tmp_path):
    start = whole[0] / "epoch_2.pth"
    kind = dict(type="AdamW", lr=LR)
    with pytest.raises(ValueError, match="made with the optimizer Adam, this config has AdamW"):
        train(config, tmp_path / "a", resume=start, optim_wrapper__generator__optimizer=kind)
    with pytest.raises(ValueError, match="follows the evaluations, so it cannot be told"):
        train(config, tmp_path / "b", resume=start, param_scheduler=PLATEAU)
    with pytest.raises(ValueError, match="0 from epoch 5 on, so the 2 epochs that are left"):
        train(
            config,
            tmp_path / "c",
            resume=whole[0] / "epoch_4.pth",
            train_cfg__max_epochs=6,
            param_scheduler__0__end=4,
        )


def test_a_schedule_by_evaluations_goes_on_with_more_epochs(config, tmp_path):
    options = dict(param_scheduler=PLATEAU, train_cfg__val_interval=1, train_cfg__max_epochs=2)
    train(config, tmp_path, **options)
    saved = torch.load(tmp_path / "epoch_2.pth")["param_schedulers"]["generator"][0]
    options["train_cfg__max_epochs"] = 3
    run = runner(config, tmp_path, resume=tmp_path / "epoch_2.pth", **options)
    run.train()
    now = run.param_schedulers["generator"][0]
    assert now.end == 3 and now._global_step == saved["_global_step"] + 1


@pytest.mark.parametrize(
    "schedules",
    [
        [
            dict(type="LinearLR", start_factor=0.1, by_epoch=False, end=12),
            dict(type="ConstantMomentum", factor=0.5, end=3),
            dict(type="ReduceOnPlateauLR", monitor="score", rule="less"),
        ],
        dict(type="LinearDecayLR", convert_to_iter_based=True),
        # Its rate is 0 in the third epoch, and not in the fourth.
        dict(type="CosineAnnealingLR", T_max=2, end=100),
        dict(type="OneCycleLR", eta_max=0.2, total_steps=20, by_epoch=False),
        dict(type="CosineRestartLR", periods=[2, 2], restart_weights=[1, 0.5], eta_min=0),
    ],
)
def test_equal_settings_change_nothing(tmp_path, schedules):
    """Also where the first rate is not the optimizer's, or one on the way is 0."""
    hook = dict(type="CheckpointHook", interval=1)
    hooks = dict(timer=dict(type="mmengine.IterTimerHook"), checkpoint=hook)
    options = dict(epochs=4, param_scheduler=schedules, default_hooks=hooks)
    tiny_runner(tmp_path, **options).train()
    whole = checkpoint(tmp_path, 4)
    run = tiny_runner(tmp_path, tmp_path / "epoch_2.pth", **options)
    said = []
    run.logger.warning = lambda text, *args: said.append(str(text))
    run.train()
    assert not [text for text in said if "other settings" in text]
    resumed = checkpoint(tmp_path, 4)
    for part in ("state_dict", "optimizer", "param_schedulers"):
        assert same(resumed[part], whole[part])


def test_the_middle_of_an_epoch_is_refused(tmp_path):
    hook = dict(type="CheckpointHook", by_epoch=False, interval=3)
    hooks = dict(timer=dict(type="mmengine.IterTimerHook"), checkpoint=hook)
    options = dict(default_hooks=hooks, custom_hooks=[dict(type="LossHook")])
    tiny_runner(tmp_path, epochs=3, **options).train()
    for iteration in (3, 12):
        with pytest.raises(ValueError, match=f"{iteration}, in the middle of an epoch of 5, so"):
            tiny_runner(tmp_path / "on", tmp_path / f"iter_{iteration}.pth", epochs=3).train()


def test_mixed_precision_of_another_kind_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(amp_optimizer_wrapper, "is_cuda_available", lambda: True)
    monkeypatch.setattr(amp_optimizer_wrapper, "GradScaler", partial(torch.amp.GradScaler, "cpu"))
    amp = dict(type="mmengine.AmpOptimWrapper", optimizer=dict(type="SGD", lr=0.1))
    brain = dict(amp, dtype="bfloat16", loss_scale=dict(enabled=False))
    tiny_runner(tmp_path, epochs=1, optim_wrapper=brain).train()
    half = dict(amp, dtype="float16")  # which no CPU trains in, so all is trained
    run = tiny_runner(tmp_path, "auto", epochs=1, optim_wrapper=half)
    run.train()
    assert run.epoch == 1 and run.optim_wrapper.loss_scaler.get_scale() == 2.0**16
