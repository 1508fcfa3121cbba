import re

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from mmengine.runner import Runner
from torch.utils.data import Dataset

from spynco_mm.utils.checkpoint import latest_checkpoint


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
        return dict(loss_fit=((self.weight - x) ** 2).mean(), loss_other=other)


class Numbers(Dataset):
    def __len__(self):
        return 20

    def __getitem__(self, index):
        return dict(x=torch.tensor(float(index % 5)))


def train(work_dir, hooks, by_epoch=True, counts=1, **model):
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
            logger=dict(type="mmengine.LoggerHook", interval=7), checkpoint=checkpoint
        ),
        custom_hooks=hooks,
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
    assert latest_checkpoint(tmp_path) == str(tmp_path / "epoch_1.pth")
