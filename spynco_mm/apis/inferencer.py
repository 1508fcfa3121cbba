"""``MMagicInferencer('spyncogan', model_ckpt=...)``: mmagic's own way to colorize."""

import functools

from mmengine.config import Config
from mmengine.fileio import load

from spynco_mm.compat_names import ROOT, config_path
from spynco_mm.utils.checkpoint import CheckpointError, by_type_name, parse_config, read_checkpoint

from .loading import load_colorization, safe_network

#: Name of the model in mmagic, and of its collection in our model index.
NAME, COLLECTION = "spyncogan", "SpyncoGan"
#: As mmagic calls what its CycleGAN does.
TASK = "Image2Image"
PREPROCESSORS = ("DataPreprocessor", "BatchDataPreprocessor")


def _settings() -> list:
    """What our model index says of the models of the collection."""
    files = load(ROOT / "model-index.yml")["Import"]
    models = [model for file in files for model in load(ROOT / file)["Models"]]
    return [model for model in models if model["In Collection"] == COLLECTION]


def checkpoint_config(path: str) -> Config:
    """The config of a checkpoint's model, as far as it colorizes, with our pipeline for pictures.

    Raises:
        CheckpointError: There is none, it is not of a SpyncoGAN, or the weights do not fit it.
    """
    meta = read_checkpoint(path).get("meta")
    text = meta.get("cfg") if isinstance(meta, dict) else None
    try:
        model = by_type_name(parse_config(text).get("model")) if isinstance(text, str) else None
        if not isinstance(model, dict) or model.get("type") != "SpyncoGAN":
            raise ValueError("it has no config of a SpyncoGAN in it; give it as model_config")
        names = ("generator", "handcrafted_translation")
        parts = safe_network({name: model[name] for name in names if name in model}, "model")
        if preprocessor := dict(model.get("data_preprocessor") or {}):
            if (kind := preprocessor.pop("type", None)) not in PREPROCESSORS:
                raise ValueError(f"its data_preprocessor is a {kind!r}, no {PREPROCESSORS[0]}")
            # Of the two, mmagic's, which does the same to single pictures.
            parts["data_preprocessor"] = dict(
                type=PREPROCESSORS[0], **safe_network(preprocessor, "model.data_preprocessor")
            )
    except ValueError as error:
        raise CheckpointError(f"{path}: {str(error).rstrip('.')}.") from error
    # mmagic builds the network before it looks at the weights; this compares them before that.
    load_colorization(path)
    pipeline = Config.fromfile(config_path("spynco_mm::_base_/datasets/colorization"))
    model = dict(type="SpyncoGAN", **parts)
    return Config(dict(model=model, test_pipeline=pipeline.test_pipeline))


def register(inferencer: type) -> None:
    """Add our model to mmagic's table of models; theirs stay as they are.

    Args:
        inferencer: mmagic's ``MMagicInferencer``.
    """
    theirs = list(inferencer.inference_supported_models)
    inferencer.inference_supported_models = [*theirs, NAME]
    init, kwargs_of = (
        inferencer.init_inference_supported_models_cfg,
        inferencer._get_inferencer_kwargs,
    )

    @functools.wraps(init)
    def init_models() -> None:
        if inferencer.inference_supported_models_cfg_inited:
            return
        # mmagic looks for the metafile of each name in its own folder.
        everything = inferencer.inference_supported_models
        inferencer.inference_supported_models = [name for name in everything if name != NAME]
        try:
            init()
        finally:
            inferencer.inference_supported_models = everything
        inferencer.inference_supported_models_cfg[NAME] = dict(task=TASK, settings=_settings())

    @functools.wraps(kwargs_of)
    def get_kwargs(self, model_name, model_setting, config_name, config, checkpoint, extra):
        if model_name != NAME:
            return kwargs_of(
                self, model_name, model_setting, config_name, config, checkpoint, extra
            )
        if checkpoint is None:
            raise ValueError(
                f"There are no weights of {NAME} to download; give model_ckpt, a checkpoint that "
                "tools/train.py has written."
            )
        if config is None and config_name is not None:
            config = str(config_path(f"spynco_mm::{config_name}"))
        if config is None:
            config = checkpoint_config(checkpoint)
        kwargs = kwargs_of(self, None, None, None, config, str(checkpoint), extra)
        return {"task": TASK, **kwargs}

    inferencer.init_inference_supported_models_cfg = staticmethod(init_models)
    inferencer._get_inferencer_kwargs = get_kwargs
