"""The generator of a checkpoint, also of one that a stranger made.

A checkpoint carries the text of its config. Here that text is data: it is parsed, never executed,
and only the parts that colorize are built from it, out of :data:`NETWORKS`.
"""

import ast
import os
import re
import zipfile
from pathlib import Path
from typing import Any, NamedTuple, Optional, Union

import torch
from mmagic.registry import MODELS
from mmengine.config import Config
from torch import Tensor, nn

from spynco_mm.engine.checkpoint import describe_mismatch
from spynco_mm.models import HandcraftedTranslation
from spynco_mm.models.translations import build_consistency

PathLike = Union[str, os.PathLike]

#: What a checkpoint's own config may build: layers and arithmetic, nothing that reads, writes or
#: imports. mmcv's norm layers are on it because generators build them from ``norm_cfg``.
NETWORKS = {
    "SpyncoGenerator",
    "ColCycleGenerator",
    "ResnetGenerator",
    "ExactConsistency",
    "HandcraftedTranslation",
    "BN",
    "IN",
}
#: The models whose generator is understood, and where it lies in the weights.
MODEL_TYPES = ("SpyncoGAN", "CycleGAN", "PseudoCycleGAN", "Pix2Pix")

MAX_CONFIG_CHARACTERS = 1 << 20
MAX_NUMBER = 1024
MAX_ITEMS = 64


class CheckpointError(ValueError):
    """A checkpoint that cannot be used. The message is one sentence: what, why, what to do."""


class Colorization(NamedTuple):
    """What it takes to colorize.

    Attributes:
        generator: From N×3×H×W, grey and normalised, to the pyramid or one image; in evaluation
            mode, without gradients, on the CPU.
        translation: H_t, from three channels to one.
        mean: Subtracted from values in [0, 255].
        std: What they are then divided by.
        bgr: Whether the generator's channels are blue, green, red.
    """

    generator: nn.Module
    translation: HandcraftedTranslation
    mean: float
    std: float
    bgr: bool


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


def _safe_network(value: Any, where: str) -> Any:
    """A network's config, checked: allowed types, plain values, no absurd number, no file."""
    if isinstance(value, dict):
        # The weights come from the checkpoint, so no initialisation is wanted; one of mmengine's
        # would load a file or an address.
        value = {key: item for key, item in value.items() if key != "init_cfg"}
        if len(value) > MAX_ITEMS or not all(isinstance(k, str) and k[:1] != "_" for k in value):
            raise ValueError(f"{where} has keys that are no arguments of a network")
        if "type" in value and value["type"] not in NETWORKS:
            raise ValueError(
                f"{where} is of the type {value['type']!r}, which is not one of "
                f"{', '.join(sorted(NETWORKS))}"
            )
        return {key: _safe_network(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, (list, tuple)) and len(value) <= MAX_ITEMS:
        return [_safe_network(item, where) for item in value]
    if isinstance(value, str) and len(value) <= MAX_ITEMS:
        return value
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, (int, float)) and abs(value) <= MAX_NUMBER:
        return value
    raise ValueError(f"{where} has the value {str(value)[:MAX_ITEMS]}, which no network needs")


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
    if torch.__version__ < torch.torch_version.TorchVersion("2.6"):
        # CVE-2025-32434: before 2.6 weights_only=True could be made to run code.
        raise CheckpointError(
            f"{path}: torch {torch.__version__} cannot load a stranger's checkpoint safely; "
            "install torch 2.6 or later."
        )
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


def _generator_weights(state: dict, model: dict) -> dict:
    """The weights of the generator that makes colour, under its own names."""
    prefix = "generator."
    if model["type"] != "SpyncoGAN":
        prefix = f"generators.{model.get('default_domain')}."
    weights = {n[len(prefix) :]: value for n, value in state.items() if n.startswith(prefix)}
    if not weights:
        raise ValueError(f"it has no weights under the name {prefix}*")
    for name, value in weights.items():
        # A tensor may claim any shape with a stride of 0.
        if not value.is_contiguous() or value.layout != torch.strided:
            raise ValueError(f"the tensor {name} is not stored as its shape says")
        if value.is_floating_point():
            weights[name] = value = value.float()
            if not torch.isfinite(value).all():
                raise ValueError(f"the weights {name} are not finite: the training had diverged")
    return weights


def _build_generator(cfg: dict, weights: dict) -> nn.Module:
    """A generator with these weights; none of another size is ever allocated."""
    cfg = dict(cfg)
    consistency = cfg.pop("consistency", None)
    with torch.device("meta"):
        generator = MODELS.build(cfg)
    message = describe_mismatch(generator.state_dict(), weights)
    if message:
        raise ValueError(f"its weights do not fit its config: {message}")
    generator.load_state_dict(weights, assign=True)
    if consistency is not None:
        generator.consistency = build_consistency(consistency)
    return generator.eval().requires_grad_(False)


def _normalization(preprocessor: dict, name: str) -> float:
    """``mean`` or ``std`` of mmagic's ``DataPreprocessor``, one for all channels."""
    values = preprocessor.get(name, 127.5)
    values = set(values) if isinstance(values, (list, tuple)) else {values}
    if len(values) != 1 or not all(type(v) in (int, float) and 0 <= v <= 255 for v in values):
        raise ValueError(f"data_preprocessor.{name} is not one number in [0, 255] for all channels")
    return float(values.pop())


@torch.no_grad()
def load_colorization(path: PathLike, config: Union[PathLike, Config, None] = None) -> Colorization:
    """The generator of a checkpoint and what surrounds it.

    Args:
        path: Checkpoint of a SpyncoGAN, or of mmagic's CycleGAN or Pix2Pix whose default domain
            is the coloured one.
        config: Config of the model, as a file or ``Config``. It is yours, so it is executed and may
            name any generator. None means the one inside the checkpoint, which is only read.

    Raises:
        CheckpointError: Either cannot be used; the message says why.
    """
    content = read_checkpoint(path)
    try:
        if config is not None:
            config = config if isinstance(config, Config) else Config.fromfile(config)
            model = config.model.to_dict()
        else:
            meta = content.get("meta")
            text = meta.get("cfg") if isinstance(meta, dict) else None
            if not isinstance(text, str):
                raise ValueError("it has no config in it; name the config of its training as well")
            model = parse_config(text).get("model")
        if not isinstance(model, dict) or model.get("type") not in MODEL_TYPES:
            kind = model.get("type") if isinstance(model, dict) else None
            raise ValueError(f"its model is of the type {kind!r}, not {', '.join(MODEL_TYPES)}")
        cfg = dict(model["generator"])
        translation = model.get("handcrafted_translation", dict(type="HandcraftedTranslation"))
        if config is None:
            cfg = _safe_network(cfg, "model.generator")
            translation = _safe_network(translation, "model.handcrafted_translation")
        generator = _build_generator(cfg, _generator_weights(content["state_dict"], model))
        translation = MODELS.build(translation)
        if tuple(translation.weight.shape) != (1, 3):
            raise ValueError("its handcrafted translation does not make one grey channel of three")
        preprocessor = model.get("data_preprocessor") or {}
        mean, std = _normalization(preprocessor, "mean"), _normalization(preprocessor, "std")
        if std == 0:
            raise ValueError("data_preprocessor.std is 0")
        bgr = preprocessor.get("output_channel_order") != "RGB"
        side = getattr(generator, "min_size", 16)
        trial = generator(torch.zeros(1, 3, side, side))
        trial = trial if isinstance(trial, Tensor) else trial[0]
        if tuple(trial.shape) != (1, 3, side, side):
            raise ValueError("its generator does not make three channels of three")
    except CheckpointError:
        raise
    except Exception as error:  # Any argument a config may hold reaches the networks' constructors.
        reason = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        raise CheckpointError(f"{path}: {reason.rstrip('.')}.") from error
    return Colorization(generator, translation, mean, std, bgr)


def split_config_and_checkpoint(
    config_or_checkpoint: Union[PathLike, Config], checkpoint: Optional[PathLike]
) -> "tuple[Union[PathLike, Config, None], PathLike]":
    """Which of the two arguments of a ``Colorizer`` is what.

    Returns:
        The config, or None for the checkpoint's own, and the checkpoint.
    """
    is_config = isinstance(config_or_checkpoint, Config) or (
        Path(config_or_checkpoint).suffix in (".py", ".json", ".yaml", ".yml")
    )
    if not is_config:
        if checkpoint is not None:
            raise ValueError(
                f"{config_or_checkpoint} is no config (.py, .json or .yaml), but a checkpoint is "
                "named beside it; give the config first, or the checkpoint alone."
            )
        return None, config_or_checkpoint
    if checkpoint is None:
        raise ValueError(
            f"{getattr(config_or_checkpoint, 'filename', config_or_checkpoint)} is a config and "
            "has no weights; give the checkpoint as well, or alone, since it carries its config."
        )
    return config_or_checkpoint, checkpoint
