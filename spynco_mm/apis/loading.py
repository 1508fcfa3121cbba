"""The generator of a checkpoint, also of one that a stranger made.

A checkpoint carries the text of its config. Here that text is data: it is parsed, never executed,
and only the parts that colorize are built from it, out of :data:`NETWORKS`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmagic.registry import MODELS
from mmengine.config import Config
from torch import Tensor, nn

from spynco_mm.models import ExactConsistency, HandcraftedTranslation
from spynco_mm.models.adapter import AnyGenerator
from spynco_mm.utils.checkpoint import (
    CheckpointError,
    PathLike,
    by_type_name,
    describe_mismatch,
    parse_config,
    read_checkpoint,
    type_name,
)

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

#: Parts that are built as they are, so nothing else may stand there: a network, with whatever sizes
#: its config claims, would be allocated before anything could be compared with it.
PARTS = {
    "consistency": "ExactConsistency",
    "translation": "HandcraftedTranslation",
    "handcrafted_translation": "HandcraftedTranslation",
}

MAX_NUMBER = 1024
MAX_ITEMS = 64


class Colorization(NamedTuple):
    """What it takes to colorize.

    Attributes:
        generator: From N×in_channels×H×W, of A and normalised, to the pyramid or one image; in
            evaluation mode, without gradients, on the CPU.
        translation: H_t, mostly from three channels to one.
        mean: Subtracted from values in [0, 255].
        std: What they are then divided by.
        bgr: Whether the generator's channels are blue, green, red.
        in_channels: The generator's: one channel of A is replicated over those of B.
    """

    generator: nn.Module
    translation: HandcraftedTranslation
    mean: float
    std: float
    bgr: bool
    in_channels: int


def safe_network(value: Any, where: str) -> Any:
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
        for key, kind in PARTS.items():
            if value.get(key) and not (
                isinstance(value[key], dict) and value[key].get("type") == kind
            ):
                raise ValueError(f"{where}.{key} is no {kind}")
        return {key: safe_network(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, (list, tuple)) and len(value) <= MAX_ITEMS:
        return [safe_network(item, where) for item in value]
    if isinstance(value, str) and len(value) <= MAX_ITEMS:
        return value
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, (int, float)) and abs(value) <= MAX_NUMBER:
        return value
    raise ValueError(f"{where} has the value {str(value)[:MAX_ITEMS]}, which no network needs")


def _generator_weights(state: dict, model: dict) -> dict:
    """The weights of the generator that makes colour, under its own names."""
    prefix = "generator."
    if type_name(model["type"]) != "SpyncoGAN":
        prefix = f"generators.{model.get('default_domain')}."
    if model["generator"].get("consistency"):
        versions = getattr(state, "_metadata", {})
        ExactConsistency.check_version(versions.get(f"{prefix}consistency", {}).get("version"))
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
        generator.consistency = MODELS.build(consistency)
    return generator.eval().requires_grad_(False)


def _normalization(preprocessor: dict, name: str) -> float:
    """``mean`` or ``std`` of mmagic's ``DataPreprocessor``, one for all channels."""
    values = preprocessor.get(name, 127.5)
    values = set(values) if isinstance(values, (list, tuple)) else {values}
    if len(values) != 1 or not all(type(v) in (int, float) and 0 <= v <= 255 for v in values):
        raise ValueError(f"data_preprocessor.{name} is not one number in [0, 255] for all channels")
    return float(values.pop())


@torch.no_grad()
def load_colorization(path: PathLike, config: PathLike | Config | None = None) -> Colorization:
    """The generator of a checkpoint and what surrounds it.

    Args:
        path: Checkpoint of a SpyncoGAN, or of mmagic's CycleGAN or Pix2Pix whose default domain
            is the coloured one; a file or an address.
        config: Config of the model, as a file or ``Config``. It is yours, so it is executed and may
            name any generator. None means the one inside the checkpoint, which is only read.

    Raises:
        CheckpointError: Either cannot be used; the message says why.
    """
    content = read_checkpoint(path)
    try:
        state = content.get("state_dict")
        if not isinstance(state, dict) or not all(
            isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
        ):
            raise ValueError("it has no 'state_dict' of tensors; name the .pth file of a training")
        if config is not None:
            config = config if isinstance(config, Config) else Config.fromfile(config)
            model = config.model.to_dict()
        else:
            meta = content.get("meta")
            text = meta.get("cfg") if isinstance(meta, dict) else None
            if not isinstance(text, str):
                raise ValueError("it has no config in it; name the config of its training as well")
            model = by_type_name(parse_config(text).get("model"))
        kind = type_name(model.get("type")) if isinstance(model, dict) else None
        if kind not in MODEL_TYPES:
            raise ValueError(f"its model is of the type {kind!r}, not {', '.join(MODEL_TYPES)}")
        cfg = dict(model["generator"])
        translation = model.get("handcrafted_translation", dict(type="HandcraftedTranslation"))
        if config is None:
            parts = dict(generator=cfg, handcrafted_translation=translation)
            cfg, translation = safe_network(parts, "model").values()
        generator = _build_generator(cfg, _generator_weights(state, model))
        translation = MODELS.build(translation)
        channels_a, channels_b = translation.weight.shape
        if channels_a >= channels_b:
            raise ValueError(
                f"its handcrafted translation from {channels_b} channels to {channels_a} leaves "
                "nothing open that could be learnt"
            )
        preprocessor = model.get("data_preprocessor") or {}
        mean, std = _normalization(preprocessor, "mean"), _normalization(preprocessor, "std")
        if std == 0:
            raise ValueError("data_preprocessor.std is 0")
        # A SpyncoGAN of three channels has no other order, also where its config names none.
        rgb = kind == "SpyncoGAN" or preprocessor.get("output_channel_order") == "RGB"
        bgr = channels_b == 3 and not rgb
        run = AnyGenerator(generator)
        side = run.min_size
        in_channels = channels_b if channels_a == 1 else channels_a
        trial = run(torch.zeros(1, in_channels, side, side), num_outputs=1)[0]
        if tuple(trial.shape) != (1, channels_b, side, side):
            raise ValueError(f"its generator does not make {channels_b} channels of {in_channels}")
    except Exception as error:  # Any argument a config may hold reaches the networks' constructors.
        reason = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        raise CheckpointError(f"{path}: {reason.rstrip('.')}.") from error
    return Colorization(generator, translation, mean, std, bgr, in_channels)


def with_film(loaded: Colorization, film: str | Sequence | None) -> Colorization:
    """The same generator with another H_t: that of the film or sensor that took the pictures.

    Args:
        loaded: From :func:`load_colorization`.
        film: Weights as of a ``HandcraftedTranslation``; None leaves the model's.

    Raises:
        ValueError: There are no such weights, or they are of another shape than the model's.
    """
    if film is None:
        return loaded
    translation = HandcraftedTranslation(film)
    shape, wanted = (tuple(h.weight.shape) for h in (translation, loaded.translation))
    if shape != wanted:
        raise ValueError(
            f"film={film!r} is an H_t of shape {'×'.join(map(str, shape))}, but the model's is of "
            f"{'×'.join(map(str, wanted))}; give weights of that shape."
        )
    return loaded._replace(translation=translation)


def split_config_and_checkpoint(
    config_or_checkpoint: PathLike | Config, checkpoint: PathLike | None
) -> "tuple[PathLike | Config | None, PathLike]":
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
