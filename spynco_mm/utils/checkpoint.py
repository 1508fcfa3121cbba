"""The one reader of checkpoints: as data, whoever made them."""

import ast
import os
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

PathLike = str | os.PathLike

MAX_CONFIG_CHARACTERS = 1 << 20


class CheckpointError(ValueError):
    """A checkpoint that cannot be used. The message is one sentence: what, why, what to do."""


# ------------------------------------------------------------------------------ config as data


def _literal(node: ast.AST) -> Any:
    """The value of an expression of literals and ``dict(...)``; nothing else is looked at."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        value = _literal(node.operand)
        if type(value) in (int, float):
            return -value
    if isinstance(node, ast.List):
        return [_literal(item) for item in node.elts]
    if isinstance(node, ast.Tuple):
        return tuple(_literal(item) for item in node.elts)
    if isinstance(node, ast.Dict) and None not in node.keys:
        return {_literal(key): _literal(value) for key, value in zip(node.keys, node.values)}
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict":
        result = {}
        # mmengine writes keys that are no names as dict(**{'key': value}).
        for keyword in node.keywords:
            value = _literal(keyword.value)
            result.update({keyword.arg: value} if keyword.arg else value)
        if not node.args:
            return result
    raise ValueError(f"line {node.lineno} has an expression that is no literal")


def parse_config(text: str) -> dict:
    """The assignments of a config's text, as mmengine writes it into checkpoints.

    Args:
        text: Lines ``name = value``, of literals and ``dict(...)`` only.

    Returns:
        Values by name. Nothing is executed or imported, ``custom_imports`` included.

    Raises:
        ValueError: The text has anything else in it, or is longer than a megabyte.
    """
    if len(text) > MAX_CONFIG_CHARACTERS:
        raise ValueError(f"it has {len(text)} characters, more than {MAX_CONFIG_CHARACTERS}")
    values = {}
    try:
        for statement in ast.parse(text).body:
            targets = getattr(statement, "targets", [])
            if not isinstance(statement, ast.Assign) or [type(t) for t in targets] != [ast.Name]:
                raise ValueError(f"line {statement.lineno} is no assignment")
            values[targets[0].id] = _literal(statement.value)
    except (SyntaxError, TypeError, RecursionError, MemoryError) as error:
        raise ValueError(f"it cannot be parsed ({type(error).__name__}: {error})") from error
    return values


# ------------------------------------------------------------------------------------- weights


def read_checkpoint(path: PathLike) -> dict:
    """Load a checkpoint without running anything that is in it.

    Args:
        path: A file that torch 1.6 or later wrote, such as mmengine's.

    Returns:
        Its content, on the CPU.

    Raises:
        CheckpointError: It is missing, no checkpoint, or holds what a checkpoint need not hold.
    """
    if not os.path.isfile(path):
        raise CheckpointError(f"{path}: there is no such checkpoint; check the path.")
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise CheckpointError(
            f"{path}: this is no checkpoint as torch.save has written them since torch 1.6 "
            f"({error}); name the .pth file of a training."
        ) from error
    # torch does not compress, so what unpacks to more was made to fill the memory.
    if unpacked > os.path.getsize(path):
        raise CheckpointError(
            f"{path}: it unpacks to {unpacked} bytes, more than its own size; do not use it."
        )
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # The unpickler raises whatever its input makes it raise.
        # torch's advice, to switch weights_only off, is not passed on.
        found = re.search(r"(?:GLOBAL|Unsupported) .*?(?= was not|\. |\n|$)", str(error))
        raise CheckpointError(
            f"{path}: it holds more than weights, or is damaged "
            f"({found[0] if found else type(error).__name__}); do not use it unless you know who "
            "made it, and then have it saved again without that."
        ) from error
    state = content.get("state_dict") if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    ):
        raise CheckpointError(
            f"{path}: it has no 'state_dict' of tensors; name the .pth file of a training."
        )
    return content


def latest_checkpoint(work_dir: str | Path) -> str | None:
    """The newest ``epoch_*.pth`` or ``iter_*.pth`` of a work directory, None if there is none.

    It looks at the files themselves: mmengine's ``last_checkpoint`` is a note beside them, which a
    kill can leave empty or behind.
    """
    found = [
        (int(path.stem.rsplit("_", 1)[1]), str(path))
        for kind in ("epoch", "iter")
        for path in Path(work_dir).glob(f"{kind}_*.pth")
        if path.stem.rsplit("_", 1)[1].isdigit()
    ]
    return max(found)[1] if found else None


def check_checkpoint(path: str | Path) -> None:
    """Read a checkpoint once before anything is built on it.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is broken, or holds something other than numbers and text, which could run
            code when it is loaded.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"There is no checkpoint '{path}'.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except PermissionError:
        raise
    except (RuntimeError, EOFError, KeyError, OSError, pickle.UnpicklingError) as error:
        stranger = re.search(r"GLOBAL (\S+)", str(error))
        reason = (
            f"it refers to {stranger[1]}, which is neither numbers nor text"
            if stranger
            else "it is cut off or not a checkpoint"
        )
        raise ValueError(f"{path} cannot be loaded: {reason}; use another one.") from error
    if not isinstance(content, dict):
        raise ValueError(
            f"{path} holds a {type(content).__name__} instead of a dict of weights; use another "
            "checkpoint."
        )


def describe_mismatch(model: dict, checkpoint: dict, at_most: int = 8) -> str:
    """Which layers two state dicts do not share, in words; empty if they fit."""
    lines = [
        f"{name} has shape {tuple(checkpoint[name].shape)} in the checkpoint and "
        f"{tuple(value.shape)} in the model"
        for name, value in model.items()
        if name in checkpoint and checkpoint[name].shape != value.shape
    ]
    lines += [f"{name} is missing in the checkpoint" for name in model if name not in checkpoint]
    lines += [f"{name} is unknown to the model" for name in checkpoint if name not in model]
    more = f", and {len(lines) - at_most} more" if len(lines) > at_most else ""
    return ", ".join(lines[:at_most]) + more
