import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from mmengine.model import BaseModel
from mmengine.registry import HOOKS, MODELS
from mmengine.runner import Runner
from torch.utils.data import Dataset

from spynco_mm.engine import LossHook
from spynco_mm.engine.run_folder import resume_point

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
from simulated_gpu import simulated_gpu


@MODELS.register_module()
class Line(BaseModel):
    """Least squares on one weight, whose second loss is what the test says at some iteration."""

    def __init__(self, bad_iter=None, value=float("nan"), breaks_weight=False):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(0.0))
        self.bad_iter, self.value, self.breaks_weight = bad_iter, value, breaks_weight
        self.iter = 0

    def forward(self, x, mode="loss"):
        self.iter += 1
        other = torch.tensor(self.value if self.iter == self.bad_iter else 0.25)
        if self.breaks_weight and self.iter == self.bad_iter:
            self.weight.data.fill_(float("inf"))
            return dict(loss_fit=torch.zeros((), requires_grad=True))
        # A norm that is not finite makes no step where the loss is scaled, and is no fault.
        norm = torch.tensor(float("inf") if self.iter == 1 else 1.0)
        return dict(loss_fit=((self.weight - x) ** 2).mean(), loss_other=other, grad_norm_g=norm)


class Numbers(Dataset):
    def __len__(self):
        return 20

    def __getitem__(self, index):
        return dict(x=torch.tensor(float(index % 5)))


def train(work_dir, hooks, by_epoch=True, counts=1, scheduler=None, follow=None, **model):
    checkpoint = dict(
        type="CheckpointHook",
        interval=1 if by_epoch else 4,
        by_epoch=by_epoch,
        backend_args=dict(backend="atomic"),
    )
    runner = Runner(
        model=dict(type="mmengine.Line", **model),
        work_dir=str(work_dir),
        train_dataloader=dict(
            batch_size=2,
            collate_fn=dict(type="default_collate"),
            sampler=dict(type="mmengine.DefaultSampler"),
            dataset=Numbers(),
        ),
        train_cfg=dict(by_epoch=True, max_epochs=3)
        if by_epoch
        else dict(by_epoch=False, max_iters=30),
        optim_wrapper=dict(
            type="mmengine.OptimWrapper",
            accumulative_counts=counts,
            optimizer=dict(type="SGD", lr=0.1),
        ),
        default_hooks=dict(
            logger=dict(type="mmengine.LoggerHook", interval=7),
            checkpoint=checkpoint,
            param_scheduler=follow or dict(type="mmengine.ParamSchedulerHook"),
        ),
        custom_hooks=hooks,
        param_scheduler=scheduler,
        randomness=dict(seed=0),
        experiment_name=str(work_dir),
        log_processor=dict(by_epoch=by_epoch),
        default_scope="mmagic",
    )
    lines = []
    runner.logger.info = lambda text, *args: lines.append(str(text))
    try:
        runner.train()
    finally:
        runner.lines = [
            re.sub(r"\s+(eta|time|data_time): \S+", "", line) for line in lines if "(train)" in line
        ]
    return runner


def history(runner):
    scalars = runner.message_hub.log_scalars
    return {key: scalars[key].data[0].tolist() for key in scalars if "loss" in key}


@pytest.mark.parametrize("by_epoch, counts", [(True, 1), (False, 1), (True, 3)])
def test_logs_what_mmengine_logs(tmp_path, by_epoch, counts):
    with_hook, without = (
        train(tmp_path / name, hooks, by_epoch, counts)
        for name, hooks in (("with", [dict(type="LossHook")]), ("without", []))
    )
    assert len(with_hook.lines) >= 3
    assert with_hook.lines == without.lines
    assert history(with_hook) == history(without)
    assert len(history(with_hook)["train/loss_other"]) == 30


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize(
    "by_epoch, bad_iter, last",
    [(True, 18, "epoch_1.pth"), (True, 3, None), (False, 12, "iter_8.pth")],
)
def test_stops_before_the_next_checkpoint(tmp_path, by_epoch, bad_iter, last, value):
    with pytest.raises(FloatingPointError) as error:
        train(tmp_path, [dict(type="LossHook")], by_epoch, bad_iter=bad_iter, value=value)
    message = str(error.value)
    # The sum of the losses, and the term that is to blame.
    terms = f"loss became {value}, loss_other became {value}"
    assert message.startswith(f"{terms} at iteration {bad_iter} (epoch ")
    if last:
        assert f"the last good checkpoint is {tmp_path / last}" in message
        assert (tmp_path / last).is_file()
    else:
        assert "no checkpoint was saved yet" in message
    saved = {path.name for path in tmp_path.glob("*.pth")}
    assert saved == ({last} if by_epoch and last else {"iter_4.pth", last} if last else set())


def test_broken_weights_are_not_saved(tmp_path):
    """The last loss of an epoch is finite, and the step after it is not."""
    with pytest.raises(FloatingPointError, match=r"^weight is not finite after .*epoch_1\.pth"):
        train(tmp_path, [dict(type="LossHook")], bad_iter=20, breaks_weight=True)
    assert resume_point(tmp_path) == (tmp_path / "epoch_1.pth", [])


def test_buffers_may_hold_what_they_like(tmp_path, monkeypatch):
    """Such as a mask of attention."""
    init = Line.__init__

    def with_mask(self, *args, **kwargs):
        init(self, *args, **kwargs)
        self.register_buffer("mask", torch.full((2, 2), float("-inf")))

    monkeypatch.setattr(Line, "__init__", with_mask)
    monkeypatch.setattr(Line, "get_extra_state", lambda self: dict(seen=3), raising=False)
    train(tmp_path, [dict(type="LossHook")])
    assert (tmp_path / "epoch_3.pth").is_file()


@HOOKS.register_module()
class Onlooker(Hook):
    """Keeps what each iteration put out, and asks for a loss now and then."""

    def before_train(self, runner):
        self.seen, self.asked = [], {}

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.seen.append(dict(outputs))
        if runner.iter % 4 == 2:
            self.asked[runner.iter] = runner.message_hub.get_scalar("train/loss_fit").current()


def test_other_hooks_see_the_losses(tmp_path):
    """As tensors, and as numbers if they ask the message hub."""
    runner = train(tmp_path, [dict(type="LossHook"), dict(type="mmengine.Onlooker")])
    (onlooker,) = (hook for hook in runner.hooks if isinstance(hook, Onlooker))
    losses = history(runner)["train/loss_fit"]
    assert len(onlooker.seen) == len(losses) == 30
    for outputs, loss in zip(onlooker.seen, losses):
        assert outputs.keys() == {"loss", "loss_fit", "loss_other", "grad_norm_g"}
        assert outputs["loss_fit"].item() == loss
    assert onlooker.asked == {i: losses[i] for i in range(2, 30, 4)}
    assert "get_scalar" not in vars(runner.message_hub)


def test_a_schedule_that_follows_the_losses(tmp_path):
    """mmagic's, which reads the loss of every iteration, and can be resumed."""

    def rates(name, *hooks):
        runner = train(
            tmp_path / name,
            list(hooks),
            follow=dict(type="ReduceLRSchedulerHook", by_epoch=False, interval=5),
            scheduler=dict(type="ReduceLR", patience=0, factor=0.5, by_epoch=False),
        )
        return runner.message_hub.get_scalar("train/lr").data[0].tolist()

    found = rates("with", dict(type="LossHook"), dict(type="ExactResumeHook"))
    assert found == rates("without") and found[-1] < found[0]
    (state,) = torch.load(tmp_path / "with" / "epoch_3.pth")["param_schedulers"]
    assert state["num_bad_epochs"] == 0


def test_scalars_on_two_devices(tmp_path):
    """A model may log what it has on the CPU; nothing waits for the GPU until it is printed."""
    hook = LossHook()
    runner = SimpleNamespace(hooks=[], iter=0, max_iters=9, train_dataloader=range(9))
    runner.message_hub, runner.train_loop = MessageHub.get_instance("two_devices"), None
    hook.before_train(runner)
    hook._interval = 5
    with simulated_gpu():
        losses = dict(a=torch.zeros((), device="cuda"), b=torch.zeros(()), c=torch.zeros(1))
        hook.after_train_iter(runner, 0, None, losses)
    assert [(names, row.device.type) for _, names, row in hook._pending] == [
        (["a"], "cuda"),
        (["b", "c"], "cpu"),
    ]
    if torch.cuda.is_available():
        hook._pending = []
        losses = dict(a=torch.ones((), device="cuda"), b=torch.zeros(()))
        hook.after_train_iter(runner, 4, None, losses)
        assert runner.message_hub.get_scalar("train/a").current() == 1
        assert runner.message_hub.get_scalar("train/b").current() == 0
