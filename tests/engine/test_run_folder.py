import pytest
import torch
from tiny_run import checkpoint, tiny_runner

from spynco_mm.engine import read_history
from spynco_mm.engine.run_folder import present_run, resume_point, run_in
from spynco_mm.utils.checkpoint import CheckpointError, read_checkpoint


def train(folder, epochs=2, **options):
    runner = tiny_runner(folder, epochs=epochs, **options)
    sentences = []
    runner.logger.warning = lambda text, *args: sentences.append(str(text))
    runner.train()
    return [sentence for sentence in sentences if "another run" in sentence]


def run_of(path):
    return run_in(read_checkpoint(path))


def names(folder):
    return sorted(path.name for path in folder.iterdir() if path.suffix in (".pth", ".jsonl"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    assert train(folder) == []
    return folder


@pytest.fixture
def folder(trained, tmp_path):
    """A folder with a run of two epochs."""
    for path in trained.iterdir():
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


FILES = ["best_score_epoch_2.pth", "epoch_1.pth", "epoch_2.pth", "history.jsonl"]


def test_a_run_has_a_name(folder):
    run = present_run(folder)
    assert names(folder) == FILES
    assert {run_of(path) for path in folder.glob("*.pth")} == {run}
    assert resume_point(folder) == (folder / "epoch_2.pth", [])
    assert train(folder, epochs=3, resume="auto") == []
    assert present_run(folder) == run_of(folder / "epoch_3.pth") == run


def test_a_new_run_sets_aside_what_another_has_left(folder):
    old = present_run(folder)
    (sentence,) = train(folder, epochs=1)
    aside = folder / f"earlier_{old}"
    assert names(aside) == FILES and str(aside) in sentence and "epoch_2.pth" in sentence
    assert names(folder) == ["best_score_epoch_1.pth", "epoch_1.pth", "history.jsonl"]
    assert [entry["epoch"] for entry in read_history(folder)] == [1]
    assert present_run(folder) == run_of(folder / "epoch_1.pth") != old
    # The old one can still be gone on with, there or elsewhere.
    assert resume_point(aside)[0] == aside / "epoch_2.pth"


def test_a_new_run_that_is_killed_early_does_not_resume_the_old_one(folder):
    """Also if the checkpoints of the old one are still there."""
    runner = tiny_runner(folder, load_from=str(folder / "epoch_2.pth"))

    def die(*args, **kwargs):
        raise KeyboardInterrupt

    runner.model.train_step = die
    with pytest.raises(KeyboardInterrupt):
        runner.train()
    assert names(folder) == ["epoch_2.pth"]  # what it started from
    assert resume_point(folder) == (None, ["epoch_2.pth"])


def test_a_run_that_goes_back_sets_its_future_aside(folder):
    run = present_run(folder)
    (sentence,) = train(folder, epochs=1, resume=folder / "epoch_1.pth")
    assert "epoch_2.pth" in sentence
    # The best one was of that future too, and of epoch 1 there was none any more.
    assert names(folder / f"earlier_{run}") == ["best_score_epoch_2.pth", "epoch_2.pth"]
    assert names(folder) == ["best_score_epoch_1.pth", "epoch_1.pth", "history.jsonl"]
    assert [entry["epoch"] for entry in read_history(folder)] == [1]
    assert present_run(folder) == run


def test_a_checkpoint_of_another_folder_begins_a_run(folder, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    train(other, epochs=3, resume=folder / "epoch_2.pth")
    assert names(folder) == FILES
    # Epoch 2 was evaluated here too, so that the best so far is in this folder.
    assert names(other) == ["best_score_epoch_2.pth", "epoch_3.pth", "history.jsonl"]
    assert [entry["epoch"] for entry in read_history(other)] == [2, 3]
    assert present_run(other) == run_of(other / "epoch_3.pth") != present_run(folder)


def test_a_folder_of_an_older_version_goes_on_without_a_name(folder):
    (folder / "run_id").unlink()
    for path in folder.glob("*.pth"):
        content = torch.load(path)
        del content["meta"]["run"]
        torch.save(content, path)
    assert train(folder, epochs=3, resume="auto") == []
    assert names(folder) == [
        "best_score_epoch_2.pth",
        "epoch_2.pth",
        "epoch_3.pth",
        "history.jsonl",
    ]
    assert present_run(folder) is None and "run" not in checkpoint(folder, 3)["meta"]
    train(folder, epochs=1)
    assert "epoch_3.pth" in names(folder / "earlier") and present_run(folder)


def test_a_folder_that_was_moved(folder, tmp_path):
    moved = folder.rename(tmp_path.with_name(f"{tmp_path.name}_moved"))
    train(moved, epochs=6, resume="auto")
    # The best one before is found where it is now, and removed for a better one.
    assert [name for name in names(moved) if "best" in name] == ["best_score_epoch_5.pth"]


def test_the_best_by_another_score_is_looked_for_anew(folder):
    train(folder, epochs=3, resume="auto")
    score = dict(type="mmengine.Score", prefix="other")
    hook = dict(type="CheckpointHook", save_best="other/score", rule="less")
    hooks = dict(checkpoint=hook)
    train(folder, epochs=4, resume="auto", val_evaluator=score, default_hooks=hooks)
    best = [name for name in names(folder) if "best" in name]
    # Epoch 4 is better than 3, both are worse than 2.
    assert best == ["best_other_score_epoch_4.pth", "best_score_epoch_2.pth"]


def test_a_checkpoint_that_cannot_be_read_is_named(folder):
    (folder / "epoch_2.pth").write_bytes(b"PK")
    with pytest.raises(CheckpointError, match=r"epoch_2\.pth: .*; (use|name) "):
        resume_point(folder)
    (sentence,) = train(folder, resume=folder / "epoch_1.pth")
    assert "epoch_2.pth" in sentence and resume_point(folder)[0] == folder / "epoch_2.pth"


@pytest.mark.parametrize("name", ["../../elsewhere", 7, None])
def test_a_strangers_name_of_a_run_is_none(folder, name):
    content = torch.load(folder / "epoch_2.pth")
    content["meta"]["run"] = name
    torch.save(content, folder / "epoch_2.pth")
    assert run_of(folder / "epoch_2.pth") is None
    (folder / "run_id").write_text(str(name))
    assert present_run(folder) is None
