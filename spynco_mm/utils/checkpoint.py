"""The one reader of checkpoints: as data, whoever made them."""

import ast
import contextlib
import hashlib
import http.client
import os
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from torch import Tensor

from .fetch import fetch
from .files import FULL, PathLike

MAX_CONFIG_CHARACTERS = 1 << 20
#: Dicts, lists and what is in them, all counted.
MAX_VALUES = 1_000_000
#: How much more than its file the tensors of a checkpoint may claim.
MAX_GROWTH = 8


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


def type_name(kind: Any) -> str:
    """The bare name of a config's ``type``: of a class, of a path to one, or with a scope."""
    return getattr(kind, "__name__", str(kind)).rpartition(".")[2]


def by_type_name(settings: Any) -> Any:
    """A copy of settings in which every ``type`` is a bare name.

    mmengine's new style of configs has classes there, and in checkpoints their paths.
    """
    if isinstance(settings, dict):
        return {
            key: type_name(value) if key == "type" else by_type_name(value)
            for key, value in settings.items()
        }
    if isinstance(settings, (list, tuple)):
        return type(settings)(map(by_type_name, settings))
    return settings


# ------------------------------------------------------------------------------------- weights


def fetch_checkpoint(url: str) -> Path:
    """Bring a checkpoint to this machine, unread.

    Args:
        url: Address, ``http://`` or ``https://``.

    Returns:
        The file in the cache, whole; under a name of its own for each address, so that nobody's
        ``epoch_1.pth`` is taken for another's. Of a file with a checksum in its name, as
        torchvision's, a copy that torch has in its cache already is used.

    Raises:
        CheckpointError: It cannot be fetched.
    """
    cache = Path(torch.hub.get_dir(), "checkpoints")
    name = re.sub(r"[^\w.-]", "_", url.rpartition("/")[2])[-80:]
    if re.search(r"-[0-9a-f]{8,}\.\w+$", name) and (cache / name).is_file():
        return cache / name
    file = cache / "spynco_mm" / f"{hashlib.sha256(url.encode()).hexdigest()[:16]}-{name}"
    if not file.is_file():
        # Processes that fetch at the same time do not write to the same file.
        mine = file.with_name(f"{file.name}.{os.getpid()}")
        try:
            fetch(url, mine)
            os.replace(mine, file)
        except (OSError, http.client.HTTPException, ValueError) as error:
            if getattr(error, "errno", None) in FULL:
                raise CheckpointError(
                    f"{url} cannot be kept as {file} ({error}); make room for it."
                ) from error
            raise CheckpointError(
                f"{url} cannot be fetched ({error}); fetch it on a computer with a network, and "
                "name the file."
            ) from error
        finally:
            mine.with_name(mine.name + ".part").unlink(missing_ok=True)
    return file


def _check_archive(file: IO[bytes], size: int) -> None:
    """Refuse an archive that is damaged, or unpacks to more than it is.

    torch itself looks at no checksum.

    Raises:
        ValueError: It is; the message is the second half of a sentence.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
            # torch does not compress, so what unpacks to more was made to fill the memory.
            if unpacked <= size:
                damaged = archive.testzip()
    except Exception as error:  # zipfile and zlib raise whatever the bytes make them raise.
        raise ValueError(
            f"it is cut off or damaged ({error}); use another, or copy it again"
        ) from error
    if unpacked > size:
        raise ValueError(f"it unpacks to {unpacked} bytes, more than its own size; do not use it")
    if damaged:
        raise ValueError(f"it is damaged, in its part {damaged!r}; use another, or copy it again")


def _check_content(content: Any, size: int) -> None:
    """Refuse what would take more memory than the file, and functions, which are no data.

    Raises:
        ValueError: There is such a thing; the message is the second half of a sentence.
    """
    values, stack, stored, claimed = 1, [content], {}, 0
    while stack:
        value = stack.pop()
        inside = ()
        if isinstance(value, Tensor):
            if value.layout != torch.strided or value.is_meta:
                raise ValueError("a tensor in it is not stored as its shape says; do not use it")
            storage = value.untyped_storage()
            stored[storage.data_ptr()] = storage.nbytes()
            claimed += value.numel() * value.element_size()
        elif isinstance(value, np.ndarray):
            claimed += value.nbytes
        elif isinstance(value, bytearray):
            claimed += len(value)
        elif isinstance(value, dict):
            inside = (*value.keys(), *value.values())
        elif isinstance(value, (list, tuple, set)):
            inside = value
        elif isinstance(value, HistoryBuffer):
            inside = vars(value).values()
        elif callable(value):
            raise ValueError(f"it holds {value!r}, which is no data; do not use it")
        # Counted before anything is done with them: a list of lists of the same list is short in
        # a file and endless for everyone who walks through it.
        values += len(inside)
        if values > MAX_VALUES:
            raise ValueError(f"it holds more than {MAX_VALUES} values; do not use it")
        stack += inside
    # Tied weights are stored once, and expanded ones smaller than they are, hence the factor.
    held = sum(stored.values())
    if held > size or claimed > MAX_GROWTH * size:
        raise ValueError(
            f"it takes {max(held, claimed)} bytes in memory and has {size}; do not use it"
        )


def _drop_code(content: dict) -> None:
    """Take out the text that mmengine would execute when it resumes.

    ``Runner.resume`` runs ``meta['config']`` as Python, to compare the number of processes. That
    number stays, if it can be read without running anything.
    """
    meta = content.get("meta")
    text = meta.pop("config", None) if isinstance(meta, dict) else None
    if isinstance(text, str):
        with contextlib.suppress(ValueError):
            ids = parse_config(text).get("gpu_ids")
            if isinstance(ids, (list, tuple)) and all(type(i) is int for i in ids):
                meta["config"] = f"gpu_ids = {list(ids)}"


def bare_name(name: str) -> str:
    """The name of a weight, without what wrappers of distributed training add to it."""
    return re.sub(r"(^|\.)module\.", r"\1", name)


def _name_versions_as_weights(content: dict) -> None:
    """Take the wrappers of distributed training out of the names of the modules' versions.

    Runs of several processes up to 0.2.0.dev0 saved weights without them, and these with them.
    """
    state = content.get("state_dict")
    versions = getattr(state, "_metadata", None)
    if isinstance(versions, dict):
        state._metadata = {
            bare_name(f"{name}.").rstrip("."): version for name, version in versions.items()
        }


def read_checkpoint(
    source: PathLike | IO[bytes],
    map_location: "str | torch.device | Callable | None" = "cpu",
) -> dict:
    """Load a checkpoint without running anything that is in it: the one door for all of them.

    Args:
        source: A file that ``torch.save`` wrote, such as mmengine's, or its address, ``http://``
            or ``https://``; also an open file.
        map_location: Where its tensors go, see ``torch.load``.

    Returns:
        Its content: tensors, arrays, numbers, text, and mmengine's log history.

    Raises:
        CheckpointError: It is missing, no checkpoint, damaged, unpacks to more than its size, or
            holds what a checkpoint need not hold.
    """
    if not isinstance(source, PathLike):
        return _read(source, "The checkpoint", map_location)
    name, path = source, source
    if isinstance(source, str) and re.match("https?://", source):
        path = fetch_checkpoint(source)
        name = f"{source}, kept as {path}"
    if not os.path.isfile(path):
        raise CheckpointError(f"{name}: there is no such checkpoint; check the path.")
    with open(path, "rb") as file:  # One file from here on, even if a training replaces it.
        return _read(file, name, map_location)


def _read(file: IO[bytes], name: PathLike, map_location: Any) -> dict:
    """What :func:`read_checkpoint` does with a file that is open."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    # Before version 1.6 torch wrote no archives. What OpenMMLab and torchvision published then is
    # still in use.
    is_archive = file.read(4) == b"PK\x03\x04"
    try:
        if is_archive:
            _check_archive(file, size)
        file.seek(0)
        content = _unpickle(file, map_location, is_archive)
        _check_content(content, size)
        if not isinstance(content, dict):
            raise ValueError(
                f"it holds a {type(content).__name__} instead of a dict of weights; name the .pth "
                "file of a training"
            )
    except ValueError as error:
        raise CheckpointError(f"{name}: {error}.") from error
    _drop_code(content)
    _name_versions_as_weights(content)
    return content


def _unpickle(file: IO[bytes], map_location: Any, is_archive: bool) -> Any:
    """Load a file as data.

    Raises:
        ValueError: It cannot be; the message is the second half of a sentence.
    """
    # A log history brings functions for all log histories of the process: these stay as they are.
    HistoryBuffer()  # registers mmengine's own
    functions = dict(HistoryBuffer._statistics_methods)
    try:
        return torch.load(file, map_location=map_location, weights_only=True)
    except Exception as error:  # The unpickler raises whatever its input makes it raise.
        # torch's advice, to switch weights_only off, is not passed on.
        found = re.search(r"GLOBAL \S+|Unsupported [^.\n]*", str(error))
        if not is_archive and not (found and "GLOBAL" in found[0]):
            raise ValueError(
                f"this is no checkpoint as torch.save writes them ({type(error).__name__}); name "
                "the .pth file of a training"
            ) from error
        raise ValueError(
            "it holds more than weights, or is damaged "
            f"({found[0] if found else type(error).__name__}); do not use it unless you know who "
            "made it, and then have it saved again without that"
        ) from error
    finally:
        HistoryBuffer._statistics_methods.clear()
        HistoryBuffer._statistics_methods.update(functions)


def same_kind(a: Tensor, b: Tensor) -> bool:
    """Whether one can be converted to the other: both real, both complex, or neither."""
    return (a.is_floating_point(), a.is_complex()) == (b.is_floating_point(), b.is_complex())


def describe_mismatch(model: dict, checkpoint: dict, at_most: int = 8) -> str:
    """Which layers two state dicts do not share, in words; empty if they fit."""
    lines = [
        f"{name} has shape {tuple(checkpoint[name].shape)} in the checkpoint and "
        f"{tuple(value.shape)} in the model"
        for name, value in model.items()
        if name in checkpoint and checkpoint[name].shape != value.shape
    ]
    lines += [
        f"{name} is {checkpoint[name].dtype} in the checkpoint and {value.dtype} in the model"
        for name, value in model.items()
        if name in checkpoint and not same_kind(checkpoint[name], value)
    ]
    lines += [f"{name} is missing in the checkpoint" for name in model if name not in checkpoint]
    lines += [f"{name} is unknown to the model" for name in checkpoint if name not in model]
    more = f", and {len(lines) - at_most} more" if len(lines) > at_most else ""
    return ", ".join(lines[:at_most]) + more
