"""SpyncoGAN in mmagic's inferencers, hook, metric and loops; our parts in mmagic's own config."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from forked import python_path
from mmagic.apis.inferencers.translation_inferencer import TranslationInferencer
from mmagic.evaluation.metrics import TransFID
from mmagic.registry import METRICS, MODELS
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from PIL import Image
from small_models import config, osp

ROOT = Path(__file__).parents[2]
ORANGE = (255, 128, 0)


@MODELS.register_module()
class OrangeGenerator(torch.nn.Module):
    """Answers every picture with the colour that a swap of channels would make blue."""

    def __init__(self):
        super().__init__()
        self.color = torch.nn.Parameter(torch.tensor(ORANGE) / 127.5 - 1)

    def init_weights(self):
        pass

    def forward(self, x):
        return self.color.view(1, 3, 1, 1).expand(len(x), 3, *x.shape[2:])


def orange_model(**kwargs):
    loss = osp((1,), type="L1Loss")
    return config(
        generator=dict(type="OrangeGenerator"),
        identity_loss=loss,
        cycle_bab_loss=loss,
        cycle_aba_loss=None,
        contours_loss=None,
        gan_loss=osp((1,), type="GANLoss", gan_type="lsgan"),
        **kwargs,
    )


def pictures(folder, names, size=(28, 24)):
    """Colourful PNGs of width×height."""
    folder.mkdir(parents=True)
    for seed, name in enumerate(names):
        rng = np.random.default_rng(seed)
        pixels = rng.integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")


def read(path):
    return np.asarray(Image.open(path).convert("RGB"))


# ------------------------------------------------------------------ inferencers


def inference_config(model, tmp_path):
    """The model with the pipeline of this project's configs, as a file."""
    base = ROOT / "configs" / "_base_" / "datasets" / "colorization.py"
    pipeline = Config.fromfile(base).test_pipeline
    cfg = Config(dict(model=model, test_pipeline=pipeline, default_scope="mmagic"))
    cfg.dump(tmp_path / "config.py")
    return str(tmp_path / "config.py")


@pytest.mark.parametrize("size", [(28, 24), (31, 23)])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_translation_inferencer(tmp_path, size, mode):
    """A picture file in, a picture file out, in the right colours and of the same size."""
    pictures(tmp_path / "in", ["a"], size)
    source = tmp_path / "in" / "a.png"
    Image.open(source).convert(mode).save(source)
    inferencer = TranslationInferencer(inference_config(orange_model(), tmp_path), None, "cpu")
    inferencer(img=str(source), result_out_dir=str(tmp_path / "out" / "a.png"))
    result = read(tmp_path / "out" / "a.png")
    assert result.shape == (*size[::-1], 3)
    assert (result == ORANGE).all()


# ------------------------------------------------------------------ hook, metric, loop


@METRICS.register_module()
class TinyTransFID(TransFID):
    """TransFID with the mean colour, and its square, for want of Inception's weights."""

    def _load_inception(self, inception_style, inception_path):
        return torch.nn.Identity(), "mean colour"

    def forward_inception(self, image):
        assert image.shape[1] == 3 and image.min() >= 0 and 1 < image.max() <= 255
        rgb = image[:, [2, 1, 0]].float().mean((2, 3)) / 255  # mmagic hands it BGR
        return torch.cat([rgb, rgb**2], 1)


def data_loader(folder, batch_size=2, **kwargs):
    """mmagic's own data set and transforms."""
    keys = ["img_gray", "img_color"]
    pipeline = [
        dict(type="LoadImageFromFile", key="img_A", color_type="color"),
        dict(type="LoadImageFromFile", key="img_B", color_type="color"),
        dict(
            type="KeyMapper",
            mapping=dict(zip(keys, ("img_A", "img_B"))),
            remapping=dict(zip(keys, keys)),
        ),
        dict(type="PackInputs", keys=keys, data_keys=keys),
    ]
    return dict(
        batch_size=batch_size,
        num_workers=0,
        sampler=dict(type="InfiniteSampler" if not kwargs else "DefaultSampler", shuffle=False),
        dataset=dict(type="UnpairedImageDataset", data_root=folder, pipeline=pipeline, **kwargs),
    )


class Keep(Hook):
    """mmagic's loops do not return what they measured."""

    def after_val_epoch(self, runner, metrics=None):
        self.metrics = metrics

    after_test_epoch = after_val_epoch


def test_training_with_mmagics_hook_metric_and_loops(tmp_path):
    for split in ("train", "test"):
        pictures(tmp_path / "data" / f"{split}A", "abcd")
        pictures(tmp_path / "data" / f"{split}B", "efgh")
    folder = str(tmp_path / "data")
    keep = Keep()
    runner = Runner(
        model=orange_model(),
        work_dir=str(tmp_path / "work"),
        experiment_name=f"inside_mmagic_{tmp_path.name}",
        train_dataloader=data_loader(folder),
        val_dataloader=data_loader(folder, test_mode=True),
        test_dataloader=data_loader(folder, test_mode=True),
        train_cfg=dict(type="IterBasedTrainLoop", max_iters=2, val_interval=2),
        val_cfg=dict(type="MultiValLoop"),
        test_cfg=dict(type="MultiTestLoop"),
        val_evaluator=dict(
            type="Evaluator",
            metrics=dict(
                type="TinyTransFID",
                prefix="FID",
                fake_nums=4,
                real_key="img_color",
                fake_key="fake_color",
                inception_pkl=str(tmp_path / "real.pkl"),
            ),
        ),
        test_evaluator=dict(type="Evaluator", metrics=dict(type="ColorizationMetric")),
        optim_wrapper=dict(
            constructor="MultiOptimWrapperConstructor",
            # Orange shall stay orange.
            generator=dict(optimizer=dict(type="SGD", lr=1e-9)),
            discriminator=dict(optimizer=dict(type="SGD", lr=1e-3)),
        ),
        custom_hooks=[
            dict(
                type="VisualizationHook",
                interval=1,
                fixed_input=True,
                n_samples=4,
                vis_kwargs_list=[
                    dict(type="Translation", name="trans", target_keys="fake_color"),
                    dict(type="TranslationVal", name="val", target_keys="fake_color"),
                ],
            ),
            keep,
        ],
        visualizer=dict(type="Visualizer", vis_backends=[dict(type="VisBackend")]),
        log_level="WARNING",
        default_scope="mmagic",
        cfg=dict(work_dir=str(tmp_path / "work")),
    )  # fmt: skip
    runner.train()

    # FID of Gaussians by hand: the fakes have no spread.
    files = sorted((tmp_path / "data" / "testB").iterdir())
    real = np.array([read(path).mean((0, 1)) / 255 for path in files])
    real = np.concatenate([real, np.square(real)], axis=1)
    orange = np.array(ORANGE) / 255
    mean = ((np.concatenate([orange, orange**2]) - real.mean(0)) ** 2).sum()
    spread = np.trace(np.cov(real, rowvar=False))
    assert keep.metrics["FID/fid"] == pytest.approx(mean + spread, rel=1e-3)
    assert keep.metrics["FID/mean"] == pytest.approx(mean, rel=1e-3)

    drawn = sorted((tmp_path / "work").rglob("*.png"))
    assert [p.stem for p in drawn] == ["trans_1", "trans_2", "val_1", "val_2"]
    for path in drawn:
        picture = read(path)
        # A 2×2 grid with a frame of 2 pixels, and nothing in it but orange.
        assert picture.shape == (2 * 24 + 6, 2 * 28 + 6, 3)
        assert np.abs(picture[2:26, 2:30].astype(int) - ORANGE).max() <= 1

    # G_1 against the colours of domain B, by this project's metric in mmagic's loop.
    mse = np.mean([(read(path).astype(float) - ORANGE) ** 2 for path in files])
    runner.test()
    assert keep.metrics["G1/MSE"] == pytest.approx(mse, rel=1e-3)


# ------------------------------------------------------------------ somebody else's config

ELSEWHERE = """
_base_ = ["mmagic::cyclegan/cyclegan_lsgan-id0-resnet-in_1xb1-80kiters_facades.py"]
custom_imports = dict(imports=["spynco_mm"], allow_failed_imports=False)

model = dict(
    type="PseudoCycleGAN",
    data_preprocessor=dict(output_channel_order="RGB"),
    generator=dict(
        _delete_=True, type="SpyncoGenerator", base_channels=2, num_blocks=1, return_pyramid=False
    ),
    discriminator=dict(_delete_=True, type="SpyncoDiscriminator", channels=(2, 4, 6, 8)),
    handcrafted_translations=dict(
        mask=dict(type="HandcraftedTranslation", weights=[[0.299, 0.587, 0.114]] * 3)
    ),
)
train_cfg = dict(max_iters=2)
train_dataloader = dict(
    batch_size=1, num_workers=0, persistent_workers=False, dataset=dict(data_root="data")
)
# Its metrics need Inception's weights.
val_cfg = val_dataloader = val_evaluator = None
test_cfg = test_dataloader = test_evaluator = None
custom_hooks = [
    dict(
        type="VisualizationHook",
        interval=2,
        n_samples=2,
        vis_kwargs_list=dict(type="Translation", name="trans"),
    )
]
default_hooks = dict(checkpoint=dict(interval=2))
log_level = "WARNING"
work_dir = "work"
"""


def test_config_of_mmagics_cyclegan_with_our_parts(tmp_path):
    """A few lines over mmagic's config, as ``mim train spynco_mm config.py`` runs it."""
    for split in ("train", "test"):
        pictures(tmp_path / "data" / f"{split}A", "ab", (64, 64))
        pictures(tmp_path / "data" / f"{split}B", "cd", (64, 64))
    (tmp_path / "config.py").write_text(ELSEWHERE)
    run = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "train.py"), "config.py", "--launcher", "none"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": python_path(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    state = torch.load(tmp_path / "work" / "iter_2.pth")["state_dict"]
    assert all(torch.isfinite(value).all() for value in state.values())
    # The mask comes by H_t, which has nothing to save.
    networks = {".".join(name.split(".")[:2]) for name in state}
    assert networks == {"generators.photo", "discriminators.photo", "discriminators.mask"}
    assert list((tmp_path / "work").rglob("trans_*.png"))
