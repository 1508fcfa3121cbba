"""Tiny runs that end at any file operation, and what they leave behind."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from interruptions import before_file_operations, same
from mmagic.models.editors.cyclegan.cyclegan_modules import GANImageBuffer
from mmengine.optim import OptimWrapperDict
from mmengine.registry import MODELS
from tiny_run import SCORES, TinyModel, checkpoint, loader, tiny_runner

from spynco_mm.engine import read_history, resume_hook
from spynco_mm.engine.resume_hook import _held, _refill
from spynco_mm.models.image_pool import ImagePool

PLATEAU = dict(
    type="ReduceOnPlateauLR", monitor="score", rule="less", patience=0, factor=0.5, threshold=0.0
)
HOOKS = [
    dict(type="mmengine.EMAHook", momentum=0.1),
    dict(
        type="mmengine.EarlyStoppingHook", monitor="score", rule="less", patience=3, min_delta=0.0
    ),
]
OPTIONS = dict(hooks=HOOKS, param_scheduler=PLATEAU)


class Killed(BaseException):
    pass


def kill_at(monkeypatch, number):
    """The process ends in front of a file operation; returns those that were done."""
    done = []

    def look(operation):
        if len(done) == number:
            raise Killed
        done.append(operation)

    before_file_operations(look, monkeypatch.setattr)
    return done


def results(folder):
    """All that a run leaves, less times and paths."""
    last = checkpoint(folder, 6)
    hub = last["message_hub"]
    return dict(
        weights=last["state_dict"],
        average=last["ema_state_dict"],
        optimizer=last["optimizer"],
        schedulers=last["param_schedulers"],
        hooks=last["hooks"],
        scalars={
            name: list(buffer.data[0])
            for name, buffer in hub["log_scalars"].items()
            if "time" not in name
        },
        best_score=hub["runtime_info"]["best_score"],
        files=sorted(path.name for path in Path(folder).glob("*.pth")),
        history=[(e["epoch"], e["iter"], e["metrics"]) for e in read_history(folder)],
        logged=logged(folder),
    )


def logged(folder):
    """The evaluations in the logs of all processes of a run."""
    files = Path(folder).glob("*/vis_data/scalars.json")
    lines = [json.loads(line) for path in files for line in path.read_text().splitlines()]
    return {(line["step"], line["score"]) for line in lines if "score" in line}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    with pytest.MonkeyPatch.context() as monkeypatch:
        operations = kill_at(monkeypatch, -1)
        tiny_runner(folder, **OPTIONS).train()
    return results(folder), operations


def test_what_an_uninterrupted_run_leaves(uninterrupted):
    found, _ = uninterrupted
    assert found["files"] == ["best_score_epoch_5.pth", "epoch_5.pth", "epoch_6.pth"]
    assert [metrics["score"] for _, _, metrics in found["history"]] == list(SCORES[1:])
    assert len(found["logged"]) == 6
    # Before the evaluation of epoch 6: bad were 3 and 4, each of which halved the rate.
    assert found["optimizer"]["param_groups"][0]["lr"] == 0.1 / 4
    assert found["hooks"] == [("EarlyStoppingHook", dict(wait_count=0, best_score=1.0))]


def train_until_killed(folder, at, **options):
    with pytest.MonkeyPatch.context() as monkeypatch:
        done = kill_at(monkeypatch, at)
        with pytest.raises(Killed):
            tiny_runner(folder, **OPTIONS, **options).train()
    return done


def differences(expected, folder):
    found = results(folder)
    return [key for key in expected if not same(expected[key], found[key])]


# In epochs 2 to 4: a better one, a better one, a worse one.
@pytest.mark.parametrize("at", range(7, 29))
def test_a_run_that_is_killed_at_any_file_operation_leaves_the_same(uninterrupted, tmp_path, at):
    expected, operations = uninterrupted
    assert train_until_killed(tmp_path, at) == operations[:at]
    tiny_runner(tmp_path, resume="auto", **OPTIONS).train()
    assert differences(expected, tmp_path) == []


def test_a_run_that_is_killed_again_and_again_leaves_the_same(uninterrupted, tmp_path):
    for at in (5, 9, 0, 3, 11, 7):
        train_until_killed(tmp_path, at, resume="auto")
    tiny_runner(tmp_path, resume="auto", **OPTIONS).train()
    assert differences(uninterrupted[0], tmp_path) == []


def test_the_best_of_a_score_that_is_not_named_is_kept(tmp_path):
    hook = dict(type="CheckpointHook", save_best="auto", rule="less")
    options = dict(default_hooks=dict(checkpoint=hook))
    tiny_runner(tmp_path, epochs=3, **options).train()
    tiny_runner(tmp_path, resume=tmp_path / "epoch_3.pth", epochs=4, **options).train()
    best = [int(np.argmin(SCORES[1:n])) + 1 for n in (4, 5)]
    assert best[0] == best[1]  # so epoch 4 is not the best
    assert [path.name for path in tmp_path.glob("best_*")] == [f"best_score_epoch_{best[0]}.pth"]


def test_gradients_between_epochs_are_kept(tmp_path):
    """Five iterations an epoch, and a step in every second."""
    sgd = dict(type="mmengine.OptimWrapper", optimizer=dict(type="SGD", lr=0.1))
    options = dict(epochs=4, optim_wrapper=dict(sgd, accumulative_counts=2))
    tiny_runner(tmp_path, **options).train()
    whole, third = checkpoint(tmp_path, 4), checkpoint(tmp_path, 3)
    assert third["gradients"][0].any() and "gradients" not in whole
    tiny_runner(tmp_path, resume=tmp_path / "epoch_3.pth", **options).train()
    assert same(checkpoint(tmp_path, 4)["state_dict"], whole["state_dict"])
    # Two iterations an epoch end with a step, other sums are not those that were begun.
    for other in (
        dict(train_dataloader=dict(loader(10), batch_size=5)),
        dict(optim_wrapper=dict(sgd, accumulative_counts=4)),
        dict(optim_wrapper=sgd),
    ):
        with pytest.raises(ValueError, match="Epoch 3 ends between two steps of an optimizer"):
            tiny_runner(tmp_path, tmp_path / "epoch_3.pth", **{**options, **other}).train()
    # The 20 iterations of four epochs are whole sums of two, and of four.
    other = dict(optim_wrapper=dict(sgd, accumulative_counts=4))
    tiny_runner(tmp_path, tmp_path / "epoch_4.pth", **{**options, **other, "epochs": 5}).train()


@MODELS.register_module()
class Alternating(TinyModel):
    """Every second iteration is without the first optimizer, as in mmagic's CycleGAN."""

    def __init__(self):
        super().__init__()
        self.discriminator = torch.nn.Linear(2, 1)

    def train_step(self, data, optim_wrapper):
        self.steps += 1
        for name in ("generator", "discriminator")[int(self.steps) % 2 :]:
            loss = ((getattr(self, name)(torch.randn(2, 2)) - data["x"]) ** 2).mean()
            optim_wrapper[name].update_params(loss)
        return dict(loss=loss)


def test_optimizers_that_take_part_in_some_iterations_go_on(tmp_path):
    """With five of ten iterations, and a step in every second of these."""
    wrapper = dict(
        type="mmengine.OptimWrapper", accumulative_counts=2, optimizer=dict(type="SGD", lr=0.1)
    )
    wrappers = dict(
        constructor="MultiOptimWrapperConstructor", generator=wrapper, discriminator=wrapper
    )
    options = dict(epochs=3, model=dict(type="mmengine.Alternating"), optim_wrapper=wrappers)
    tiny_runner(tmp_path, **options).train()
    whole = checkpoint(tmp_path, 3)
    tiny_runner(tmp_path, tmp_path / "epoch_2.pth", **options).train()
    assert same(checkpoint(tmp_path, 3)["state_dict"], whole["state_dict"])


CHECKPOINT = dict(type="CheckpointHook", backend_args=dict(backend="atomic"))
BY_ITER = dict(train_cfg=dict(by_epoch=False, max_iters=3), log_processor=dict(by_epoch=False))


@pytest.mark.parametrize(
    "options, sentence",
    [
        (dict(out_dir="elsewhere"), "the work directory, but .* an out_dir or a filename_tmpl"),
        (dict(filename_tmpl="my_{}.pth"), "looks for epoch_.*, but .* has an out_dir or a filen"),
        (dict(by_epoch=False), "has by_epoch=False; set it to True, or leave ExactResumeHook out"),
        (BY_ITER, "this run is counted in iterations; leave ExactResumeHook out"),
    ],
)
def test_checkpoints_that_no_resume_would_find_are_refused(tmp_path, options, sentence):
    if options is not BY_ITER:
        options = dict(default_hooks=dict(checkpoint={**CHECKPOINT, **options}))
    runner = tiny_runner(tmp_path, **options)
    with pytest.raises(ValueError, match=sentence):
        runner.train()
    assert runner.iter == 0


def test_what_would_not_go_on_exactly_is_said(tmp_path):
    """Averages that nobody goes on with, and workers that draw on; the run is finished."""
    tiny_runner(tmp_path, epochs=1, hooks=HOOKS[:1]).train()
    with pytest.raises(ValueError, match="is of a run with an EMAHook, which"):
        tiny_runner(tmp_path, tmp_path / "epoch_1.pth", epochs=1).train()

    for sampler in ("mmengine.DefaultSampler", "EpochSampler"):
        workers = dict(num_workers=1, persistent_workers=True, sampler=dict(type=sampler))
        options = dict(train_dataloader={**loader(10), **workers}, hooks=HOOKS[:1], epochs=1)
        runner = tiny_runner(tmp_path, tmp_path / "epoch_1.pth", **options)
        said = []
        runner.logger.warning = lambda text, *args, said=said: said.append(str(text))
        runner.train()
        warned = any("not exact if its data set draws" in text for text in said)
        assert warned == (sampler != "EpochSampler")


def test_early_stopping_goes_on_counting(tmp_path):
    """And a run that was stopped stays so."""
    hooks = [dict(HOOKS[1], patience=2)]
    tiny_runner(tmp_path, epochs=3, hooks=hooks).train()
    for _ in range(2):
        runner = tiny_runner(tmp_path, resume="auto", epochs=6, hooks=hooks)
        runner.train()
        # Epochs 3 and 4 are no better than 2.
        assert runner.epoch == 4


def test_image_pools_of_both_kinds_are_saved_alike():
    """So a CycleGAN's is kept as well, and checkpoints of before can be resumed."""
    images = torch.rand(5, 3, 4, 4)
    for kind, other in ((GANImageBuffer, ImagePool), (ImagePool, GANImageBuffer)):
        pool, more = kind(4), other(3)
        assert _held(pool) == _held(more) == []
        _refill(more, [])
        pool.query(images[:4])
        _refill(more, _held(pool))
        assert same(_held(pool), images[:4]) and same(_held(more), images[:3])
        assert more.query(images[4:]).shape == (1, 3, 4, 4)
        assert len(_held(more)) == 3 and _held(kind(0)) == []


def test_more_processes_than_pools_have_them_in_turn(monkeypatch):
    """Fewer: tests/tools/test_dist_train.py."""
    monkeypatch.setattr(resume_hook, "get_world_size", lambda: 3)
    monkeypatch.setattr(resume_hook, "get_rank", lambda: 2)
    pool, said, hook = ImagePool(4), [], resume_hook.ExactResumeHook()
    runner = SimpleNamespace(
        model=SimpleNamespace(image_buffers=[pool]),
        optim_wrapper=OptimWrapperDict(),
        hooks=[],
        logger=SimpleNamespace(warning=said.append),
    )
    first, second = torch.rand(2, 3, 3, 4, 4)
    hook._loaded = dict(image_buffers=[[first], [second]])
    hook._restore(runner)
    assert same(_held(pool), first)
    assert "the image pools of 2 processes, this run has 3" in said[0]
