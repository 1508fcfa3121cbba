"""Two processes against one that sees both batches."""

import forked
import pytest
import ranks
import torch
from interruptions import same
from tiny_run import checkpoint

# Both ways add the same numbers in another order: over the images of a batch, and over processes.
# In float64 a mean of n ~ 1e4 terms is off by n * 1.1e-16 ~ 1e-12 of the terms' size at worst. Adam
# divides by |gradient| + 1e-8, and so turns the error of a gradient that would be 0 (the bias in
# front of an instance norm) into at most lr * 1e-12 / 1e-8 = 2e-8 a step, and 4 steps are made. In
# float32 the same biases would move by the full lr in the direction of the rounding error, which is
# why this test is not in float32.
TOLERANCE = 1e-7


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    both = forked.ranks(ranks.__file__, folder)
    assert all(run.returncode == 0 for run in both), both[0].stdout + both[1].stdout
    # Both end with all that was printed, before the interpreter's own end, which gloo may abort.
    assert all(run.stdout.endswith("done") for run in both)
    return [torch.load(folder / f"{rank}.pth") for rank in range(2)] + [folder]


def differences(a: dict, b: dict) -> dict:
    assert a.keys() == b.keys()
    return {key: (a[key][1] - b[key][1]).abs().max().item() for key in a if a[key][1].numel()}


@pytest.mark.parametrize("name", [name for name in ranks.SCENARIOS if "as it is" not in name])
def test_ranks_agree_with_each_other_and_with_one_process(processes, name):
    first, second = (results[name] for results in processes[:2])
    assert all(torch.equal(first[key][1], second[key][1]) for key in first)
    alone = ranks.train(name)
    assert max(differences(first, alone).values()) <= TOLERANCE
    # Both networks were trained: a step of Adam moves a weight by about lr = 2e-4.
    for network in ("generator", "discriminator"):
        moved = [(end - start).abs().max() for key, (start, end) in first.items() if network in key]
        untrained = name == "no GAN" and network == "discriminator"
        assert max(moved) == 0 if untrained else max(moved) > 1e-4


def test_cyclegan_of_mmagic_does_not_average(processes):
    """What the import mends: the ranks drift apart as far as they train."""
    name = "CycleGAN as it is in mmagic"
    apart = differences(*(results[name] for results in processes[:2]))
    assert max(apart.values()) > 1e-4 > 1e3 * TOLERANCE


def test_a_bad_loss_on_one_process_stops_all(processes):
    sentences = {results["stopped"] for results in processes[:2]}
    assert len(sentences) == 1
    assert sentences.pop().startswith("loss_g became inf at iteration 7 on process 1 (epoch 1): no")


def test_a_process_that_is_stopped_is_told_of(processes):
    assert processes[0]["stuck"].startswith("Another process of the run did not answer within the ")


def test_a_checkpoint_that_cannot_be_fetched_stops_all(processes):
    for results in processes[:2]:
        assert "http://127.0.0.1:9/none.pth cannot be fetched" in results["fetched"]


def test_averaged_weights_are_saved_and_resumed(processes):
    """By mmengine's EMAHook and by mmagic's, beside gradients that wait for the next epoch."""
    whole, resumed = (checkpoint(processes[2] / name, 2) for name in ("whole", "resumed"))
    first = checkpoint(processes[2] / "whole", 1)
    assert list(first["state_dict"]) == ["steps", "generator.weight", "generator_ema.weight"]
    assert set(first["ema_state_dict"]) == {"steps", "module.steps", "module.generator.weight"}
    assert first["gradients"][0] is not None
    average, raw = first["state_dict"], first["ema_state_dict"]
    # One step was made, in the second iteration of three, from 1 to the present weight.
    assert raw["module.generator.weight"].ne(1).all()
    for mean in (average["generator.weight"], average["generator_ema.weight"]):
        assert torch.allclose(mean, 1 + 0.19 * (raw["module.generator.weight"] - 1))
    for part in ("state_dict", "ema_state_dict", "optimizer"):
        assert same(whole[part], resumed[part]), part
