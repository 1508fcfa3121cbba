"""Checkpoints that a plain Runner is given, whose config names nothing of this package."""

import pytest
import torch
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn

from spynco_mm.engine.run_folder import resume_point
from spynco_mm.utils.checkpoint import CheckpointError


class Line(BaseModel):
    def __init__(self, init_cfg=None):
        super().__init__(init_cfg=init_cfg)
        self.line = nn.Linear(1, 1)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, x, mode):
        return dict(loss=self.line(x).square().sum()) if mode == "loss" else [x]


class Falling(BaseMetric):
    """Better in every evaluation of a process."""

    value = 0.0

    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        Falling.value -= 1
        return dict(score=Falling.value)


def run(work_dir, epochs=1, checkpoint=None, resume=True, init_cfg=None, **hook):
    """A run of a line with five numbers."""
    loader = dict(
        batch_size=1,
        collate_fn=dict(type="default_collate"),
        dataset=[dict(x=torch.ones(1))] * 5,
        sampler=dict(type="DefaultSampler"),
    )
    default = dict(type="CheckpointHook", save_best="score", rule="less", max_keep_ckpts=1)
    runner = Runner(
        Line(init_cfg),
        str(work_dir),
        train_dataloader=loader,
        val_dataloader=loader,
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        val_cfg=dict(),
        val_evaluator=[Falling()],
        optim_wrapper=dict(optimizer=dict(type="SGD", lr=0.1)),
        default_hooks=dict(checkpoint={**default, **hook}),
        load_from=None if checkpoint is None else str(checkpoint),
        resume=resume and checkpoint is not None,
        default_scope="mmengine",
        experiment_name=f"{work_dir} {epochs} {checkpoint} {id(loader)}",
        log_level="ERROR",
    )
    runner.train()
    return runner


def edited(path, target, edit):
    """A copy of a checkpoint with changes."""
    content = torch.load(path, weights_only=True)
    edit(content)
    target.parent.mkdir(exist_ok=True)
    torch.save(content, target)
    return target


@pytest.fixture
def first(tmp_path):
    run(tmp_path / "a")
    return tmp_path / "a" / "epoch_1.pth"


def names(folder):
    return sorted(path.name for path in folder.glob("*.pth"))


def test_a_run_without_a_name_goes_on_with_its_own_checkpoints(first):
    """Whatever a run before it, with a name or a longer one, has left in the folder."""
    content = torch.load(first)
    content["meta"]["run"] = "20260101_000000_abcd"
    torch.save(content, first.with_name("epoch_6.pth"))
    first.with_name("run_id").write_text("20260101_000000_abcd")
    run(first.parent, 2)
    assert resume_point(first.parent) == (first.with_name("epoch_2.pth"), [])


def test_extra_state_of_a_module_is_its_own_affair(tmp_path, monkeypatch):
    monkeypatch.setattr(Line, "get_extra_state", lambda self: dict(seen=3), raising=False)
    monkeypatch.setattr(Line, "set_extra_state", lambda self, state: None, raising=False)
    run(tmp_path)
    assert run(tmp_path, 2, tmp_path / "epoch_1.pth").epoch == 2


# --------------------------------------------------------------------------------- files of others


def test_a_run_deletes_what_it_replaces_in_its_own_folder(first):
    assert names(first.parent) == ["best_score_epoch_1.pth", "epoch_1.pth"]
    runner = run(first.parent, 2, first)
    assert runner.epoch == 2 and runner.message_hub.get_info("best_score") == Falling.value
    assert names(first.parent) == ["best_score_epoch_2.pth", "epoch_2.pth"]


def test_a_folder_that_was_moved_is_still_its_own(first):
    moved = first.parent.rename(first.parent.with_name("moved"))
    run(moved, 2, moved / "epoch_1.pth")
    assert names(moved) == ["best_score_epoch_2.pth", "epoch_2.pth"]


def test_the_folder_may_be_another_than_the_work_directory(tmp_path):
    run(tmp_path / "a", out_dir=str(tmp_path / "out"))
    folder = tmp_path / "out" / "a"
    assert names(folder) == ["best_score_epoch_1.pth", "epoch_1.pth"]
    assert resume_point(tmp_path / "a") == (folder / "epoch_1.pth", [])
    run(tmp_path / "a", 2, folder / "epoch_1.pth", out_dir=str(tmp_path / "out"))
    assert names(folder) == ["best_score_epoch_2.pth", "epoch_2.pth"]


def test_another_folder_stays_as_it_is(first, tmp_path):
    before = names(first.parent)
    run(tmp_path / "b")  # has an epoch_1.pth and a best_score_epoch_1.pth of its own
    run(tmp_path / "b", 2, first)
    assert names(first.parent) == before
    assert names(tmp_path / "b") == [
        "best_score_epoch_1.pth",
        "best_score_epoch_2.pth",
        "epoch_1.pth",
        "epoch_2.pth",
    ]


@pytest.mark.parametrize("where", ["elsewhere", "a"])
def test_paths_in_a_checkpoint_are_not_obeyed(first, tmp_path, where):
    precious = tmp_path / "best_precious"
    precious.mkdir()
    (precious / "file").touch()
    mine = first.parent / "history.jsonl"
    mine.touch()
    (first.parent / "epoch_" / "x").mkdir(parents=True)
    outside = tmp_path / "x.pth"
    outside.touch()
    for path in (precious, mine, first.parent, tmp_path):

        def edit(content, path=path):
            info = content["message_hub"]["runtime_info"]
            info.update(best_ckpt=str(path), last_ckpt=str(path), keep_ckpt_ids=["/../../x", 7])

        run(first.parent, 2, edited(first, tmp_path / where / "evil.pth", edit))
        assert (precious / "file").exists() and mine.exists() and outside.exists()
        assert first.exists()
        for made in first.parent.glob("*_2.pth"):
            made.unlink()


# ------------------------------------------------------------------------------------------- code


def test_the_config_in_a_checkpoint_is_not_executed(first, trap, tmp_path):
    code = f"import os\nos.mkdir({str(trap.folder)!r})\ngpu_ids = [0]\n"

    def edit(content):
        content["meta"].update(config=code, cfg=code)
        content["message_hub"]["runtime_info"]["cfg"] = code

    runner = run(first.parent, 2, edited(first, tmp_path / "evil.pth", edit))
    assert runner.epoch == 2 and not trap.folder.exists()
    assert runner.message_hub.get_info("cfg") == runner.cfg.pretty_text


def test_the_number_of_processes_is_still_compared(first, tmp_path):
    def edit(content):
        content["meta"]["config"] = "gpu_ids = [0, 1]"

    with pytest.raises(RuntimeError, match="Number of GPUs"):
        run(first.parent, 2, edited(first, tmp_path / "two.pth", edit))


@pytest.mark.parametrize("way", ["resume", "load_from", "init_cfg", "init_cfg with prefix"])
@pytest.mark.parametrize("place", ["file", "address"])
def test_a_pickle_is_not_run(first, trap, server, tmp_path, monkeypatch, way, place):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))

    def edit(content):
        content["state_dict"]["evil"] = trap

    path = edited(first, tmp_path / "evil.pth", edit)
    if place == "address":
        server.files["/evil.pth"] = path.read_bytes()
        path = f"{server.url}/evil.pth"
    options = dict(checkpoint=path, resume=way == "resume")
    if way.startswith("init_cfg"):
        prefix = "line" if way.endswith("prefix") else None
        options = dict(init_cfg=dict(type="Pretrained", checkpoint=str(path), prefix=prefix))
    with pytest.raises(CheckpointError, match=r"evil\.pth.*: it holds more than weights"):
        run(tmp_path / "b", **options)
    assert not trap.folder.exists()


def test_weights_behind_an_address(first, server, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    server.files["/good.pth"] = first.read_bytes()
    runner = run(tmp_path / "b", 2, f"{server.url}/good.pth")
    assert runner.epoch == 2 and names(tmp_path / "b") == ["best_score_epoch_2.pth", "epoch_2.pth"]


# ------------------------------------------------------------------------------------ other types


def retyped(first, target, dtype):
    def edit(content):
        weights = content["state_dict"]
        weights["line.weight"] = weights["line.weight"].to(dtype)

    return edited(first, target, edit)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_precision(first, tmp_path, dtype):
    path = retyped(first, tmp_path / "other.pth", dtype)
    assert run(tmp_path / "b", 1, path, resume=False).model.line.weight.dtype == torch.float32
    with pytest.raises(
        CheckpointError, match=rf"other.pth: its line\.weight is {dtype}, and torch"
    ):
        run(tmp_path / "c", 2, path)


@pytest.mark.parametrize("dtype", [torch.int64, torch.complex64, torch.bool])
def test_weights_of_another_kind(first, tmp_path, dtype):
    path = retyped(first, tmp_path / "other.pth", dtype)
    with pytest.raises(
        CheckpointError, match=rf"other.pth: its line\.weight is {dtype}, and torch"
    ):
        run(tmp_path / "b", 1, path, resume=False)


@pytest.mark.parametrize(
    "change",
    [
        dict(meta=None),
        dict(meta=dict(epoch="1", iter=5)),
        dict(meta=dict(epoch=-1, iter=5)),
        dict(message_hub=None),
        dict(message_hub=dict(runtime_info={})),
        dict(state_dict=[]),
        dict(state_dict={"line.weight": "text"}),
    ],
)
def test_what_is_no_checkpoint_of_a_run(first, tmp_path, change):
    path = edited(first, tmp_path / "odd.pth", lambda content: content.update(change))
    with pytest.raises(CheckpointError, match=r"odd\.pth: (it does not say how far|its )"):
        run(tmp_path / "b", 2, path)


@pytest.mark.parametrize("resume", [False, True])
def test_weights_of_the_first_exact_consistency(tiny_checkpoint, tmp_path, resume):
    def edit(content):
        versions = content["state_dict"]._metadata
        del versions["generator.consistency"]  # as several processes saved it at first
        versions["generator.module.consistency"] = dict(version=1)

    content = torch.load(tiny_checkpoint, weights_only=True)
    cfg = Config.fromstring(content["meta"]["cfg"], ".py")
    cfg.work_dir, cfg.resume = str(tmp_path), resume
    cfg.load_from = str(edited(tiny_checkpoint, tmp_path / "old.pth", edit))
    with pytest.raises(
        CheckpointError, match=r"old\.pth: this checkpoint's .* its first form, and"
    ):
        Runner.from_cfg(cfg).load_or_resume()
