import torch

from spynco_mm.utils.checkpoint import describe_mismatch


def test_describe_mismatch():
    model = {"a.w": torch.zeros(2, 3), "b.w": torch.zeros(1), "same": torch.zeros(4)}
    other = {"a.w": torch.zeros(3, 3), "c.w": torch.zeros(1), "same": torch.ones(4)}
    assert describe_mismatch(model, other) == (
        "a.w has shape (3, 3) in the checkpoint and (2, 3) in the model, "
        "b.w is missing in the checkpoint, c.w is unknown to the model"
    )
    assert describe_mismatch(model, other, at_most=1).endswith("(2, 3) in the model, and 2 more")
    assert describe_mismatch(model, dict(model)) == ""
