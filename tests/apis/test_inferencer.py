"""mmagic's own way to colorize a file, with the checkpoint that a real training wrote."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmagic.apis import MMagicInferencer
from mmengine.config import Config
from mmengine.infer import BaseInferencer
from PIL import Image
from skimage import data

from spynco_mm.apis import Colorizer
from spynco_mm.utils.checkpoint import CheckpointError


@pytest.fixture(scope="module")
def cat(tiny_checkpoint, tmp_path_factory):
    """A picture, and what the Colorizer makes of it."""
    path = tmp_path_factory.mktemp("cat") / "cat.png"
    Image.fromarray(data.chelsea()[:90, :120]).save(path)
    return path, np.asarray(Colorizer(tiny_checkpoint, device="cpu")(path)).astype(int)


@pytest.mark.parametrize("model", ["spyncogan", "cyclegan"])
def test_mmagics_inferencer_gives_the_colorizers_picture(model, tiny_checkpoint, cat, tmp_path):
    """From the checkpoint alone, or with a config and the alias of another translation model."""
    picture, want = cat
    config = None
    if model == "cyclegan":
        config = str(tmp_path / "config.py")
        text = torch.load(tiny_checkpoint, weights_only=True)["meta"]["cfg"]
        Path(config).write_text(text)
    inferencer = MMagicInferencer(
        model, model_config=config, model_ckpt=str(tiny_checkpoint), device="cpu"
    )
    inferencer.infer(img=str(picture), result_out_dir=str(tmp_path / "out.png"))
    result = np.asarray(Image.open(tmp_path / "out.png")).astype(int)
    assert abs(result - want).max() <= 1


def test_a_config_of_ours_by_name(tiny_checkpoint):
    inferencer = MMagicInferencer(
        "spyncogan", config_name="spynco_demo", model_ckpt=str(tiny_checkpoint), device="cpu"
    )
    assert inferencer.inferencer.inferencer.cfg.model.generator.base_channels == 24


def test_ours_is_one_of_mmagics_models():
    names = MMagicInferencer.get_inference_supported_models()
    assert names.count("spyncogan") == 1 and {"cyclegan", "pix2pix", "biggan"} < set(names)
    assert {"spyncogan", "cyclegan"} <= set(
        MMagicInferencer.get_task_supported_models("Image2Image")
    )
    assert MMagicInferencer.get_inference_supported_models() is names
    configs = MMagicInferencer.inference_supported_models_cfg
    assert set(configs) == set(names)
    assert "spynco_exact_cifar10" in {model["Name"] for model in configs["spyncogan"]["settings"]}
    assert all("Weights" in model for model in configs["cyclegan"]["settings"]), (
        "theirs are as they were"
    )


def test_what_the_inferencer_says(trap, tmp_path):
    with pytest.raises(ValueError, match="no weights of spyncogan to download; give model_ckpt"):
        MMagicInferencer("spyncogan")
    with pytest.raises(ValueError, match="Model spyncogam is not supported"):
        MMagicInferencer("spyncogam")
    text = "model = dict(type='SpyncoGAN', generator=dict(type='SRCNNNet', pretrained='x'))"
    for meta, words in [
        (dict(cfg=text), r"generator is of the type 'SRCNNNet'"),
        (dict(cfg="model = dict(type='Pix2Pix')"), "no config of a SpyncoGAN in it; give it as"),
        ({}, "no config of a SpyncoGAN"),
    ]:
        torch.save(dict(meta=meta, state_dict={}), tmp_path / "a.pth")
        with pytest.raises(CheckpointError, match=words):
            MMagicInferencer("spyncogan", model_ckpt=str(tmp_path / "a.pth"))


def test_a_network_of_another_size_than_its_weights_is_not_built(tiny_checkpoint, tmp_path):
    content = torch.load(tiny_checkpoint, weights_only=True)
    model = Config.fromstring(content["meta"]["cfg"], ".py").model.to_dict()
    model["generator"].update(base_channels=1024, num_blocks=1024)
    content["meta"]["cfg"] = f"model = {model}"
    torch.save(content, tmp_path / "huge.pth")
    with pytest.raises(CheckpointError, match="its weights do not fit its config"):
        MMagicInferencer("spyncogan", model_ckpt=str(tmp_path / "huge.pth"))


def test_list_models_reads_the_model_index():
    names = BaseInferencer.list_models("spynco_mm", "spynco_exact_")
    assert "spynco_exact_cifar10" in names and "spynco_cifar10" not in names
