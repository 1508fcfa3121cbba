"""How tests end a run as a power cut would, and compare what it has left."""

import os
from collections.abc import Callable
from pathlib import Path

import torch


def before_file_operations(look: Callable[[str], None], put: Callable = setattr) -> None:
    """Have a function called in front of each file operation of this process from now on.

    Args:
        look: Gets ``"replace epoch_2.pth"`` and the like, with the name of the file's last place.
        put: Replaces a function of ``os``, for good or as a test's monkeypatch.
    """

    def watched(function):
        def call(*args, **kwargs):
            look(f"{function.__name__} {Path(args[-1]).name}")
            return function(*args, **kwargs)

        return call

    for name in ("replace", "remove", "rename", "unlink"):
        put(os, name, watched(getattr(os, name)))


def same(a, b) -> bool:
    """Whether two parts of checkpoints are equal, bit by bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b
