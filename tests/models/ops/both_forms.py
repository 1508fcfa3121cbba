"""The rule of spynco_mm.models.ops: op(x, ..., fast=True) is op(x, ..., fast=False)."""

import sys

import torch

#: By what the fast form is computed.
DEVICES = ("cpu", "gpu")


def choose_forms(monkeypatch, device):
    """For ``"gpu"``, the forms that a GPU gets, computed by the CPU."""
    if device == "gpu":
        for name, module in list(sys.modules.items()):
            if name.startswith("spynco_mm.models.ops.") and hasattr(module, "on_cpu"):
                monkeypatch.setattr(module, "on_cpu", lambda x: False)


def normal(*size, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*size, generator=generator, dtype=torch.float64)


def assert_same(op, *tensors, memory_format=torch.contiguous_format, atol=1e-10):
    """Values, and gradients of all that is a tensor; ``op`` is called as op(*tensors, fast=...).

    Returns:
        The values.
    """
    found = []
    for fast in (True, False):
        leaves = [
            t.clone(memory_format=memory_format if t.ndim == 4 else torch.contiguous_format)
            for t in tensors
        ]
        leaves = [leaf.requires_grad_() for leaf in leaves]
        # Operations may overwrite what they get, which a leaf does not allow.
        y = op(*(leaf * 1 for leaf in leaves), fast=fast)
        weights = normal(*y.shape, seed=1).to(y)
        found.append([y, *torch.autograd.grad((y * weights).sum(), leaves)])
    for a, b in zip(*found):
        torch.testing.assert_close(a, b, atol=atol, rtol=0)
    return found[0][0].detach()
