"""mmagic's own way to colorize a file, with the config that a real training wrote."""

import numpy as np
import torch
from mmagic.apis import MMagicInferencer
from PIL import Image
from skimage import data

from spynco_mm.apis import Colorizer


def test_mmagics_inferencer_gives_the_colorizers_picture(tiny_checkpoint, tmp_path):
    config = tmp_path / "config.py"
    config.write_text(torch.load(tiny_checkpoint, weights_only=True)["meta"]["cfg"])
    Image.fromarray(data.chelsea()[:90, :120]).save(tmp_path / "cat.png")
    inferencer = MMagicInferencer(
        model_name="cyclegan",  # names the task, translation
        model_config=str(config),
        model_ckpt=str(tiny_checkpoint),
        device="cpu",
    )
    inferencer.infer(img=str(tmp_path / "cat.png"), result_out_dir=str(tmp_path / "out.png"))
    result = np.asarray(Image.open(tmp_path / "out.png")).astype(int)
    want = np.asarray(Colorizer(tiny_checkpoint, device="cpu")(tmp_path / "cat.png"))
    assert abs(result - want).max() <= 1
