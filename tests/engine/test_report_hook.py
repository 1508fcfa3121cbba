import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmagic.structures import DataSample
from mmengine.config import Config
from mmengine.registry import VISBACKENDS
from mmengine.runner import Runner
from mmengine.visualization import BaseVisBackend

from spynco_mm.engine.report_hook import ColorizationReportHook
from spynco_mm.evaluation import read_images
from spynco_mm.visualization import pyramid_grid

sys.path.insert(0, str(Path(__file__).parents[1] / "evaluation"))
from toy_colorizer import NUM_IMAGES, make_gray, make_image, make_runner, validate

HOOK = dict(type="ColorizationReportHook", num_images=3)
CYCLEGAN = dict(
    type="CycleGAN",
    data_preprocessor=dict(type="DataPreprocessor", data_keys=None),
    generator=dict(
        type="ResnetGenerator", in_channels=3, out_channels=3, base_channels=4, num_blocks=1
    ),
    discriminator=dict(type="PatchDiscriminator", in_channels=3, base_channels=4, num_conv=1),
    default_domain="color",
    reachable_domains=["color", "gray"],
    related_domains=["color", "gray"],
)


@VISBACKENDS.register_module()
class Recorder(BaseVisBackend):
    """Keeps what it is given, as TensorBoard would."""

    def __init__(self, save_dir, images):
        super().__init__(save_dir)
        self.images = images

    experiment = _init_env = None

    def add_image(self, name, image, step=0, **kwargs):
        self.images.append((name, image, step))


def read_png(path):
    return cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)


def training(by_epoch):
    return dict(
        train_dataloader=dict(
            batch_size=2,
            sampler=dict(type="mmengine.DefaultSampler", shuffle=True),
            dataset=dict(type="mmengine.ToyImages"),
            collate_fn=dict(type="pseudo_collate"),
        ),
        train_cfg=dict(type="mmengine.EpochBasedTrainLoop", max_epochs=2)
        if by_epoch
        else dict(type="mmengine.IterBasedTrainLoop", max_iters=6, val_interval=3),
        optim_wrapper=dict(
            type="mmengine.OptimWrapper", optimizer=dict(type="torch.optim.SGD", lr=0.1)
        ),
    )


@pytest.mark.parametrize("multi_loop", [False, True])
@pytest.mark.parametrize("by_epoch", [True, False])
def test_training_reports_each_validation(tmp_path, by_epoch, multi_loop):
    images = []
    backends = [
        dict(type="VisBackend"),
        dict(type="mmengine.LocalVisBackend"),
        dict(type="mmengine.Recorder", images=images),
    ]
    runner = make_runner(
        tmp_path,
        multi_loop,
        custom_hooks=[HOOK],
        visualizer=dict(type="Visualizer", vis_backends=backends),
        **training(by_epoch),
    )
    lines = []
    runner.logger.info = lambda text, *args: lines.append(str(text))
    runner.train()

    results = json.loads((tmp_path / "results.json").read_text())
    assert list(results) == ["gray", "G1", "G2", "G3", "G1_projected", "settings"]
    assert list(results["G1"])[:4] == ["MSE", "PSNR", "SSIM", "CIEDE2000"]
    settings = results["settings"]
    assert settings["num_images"] == NUM_IMAGES
    assert settings["ssim_window"] == "uniform"
    assert (settings["split"], settings["epoch"], settings["iter"]) == (
        ("val", 2, 8) if by_epoch else ("val", settings["epoch"], 6)
    )
    tables = [line for line in lines if "grey input" in line]
    assert len(tables) == 2 and f"{results['G1']['MSE']:.2f}" in tables[1]

    names = ["epoch_1.png", "epoch_2.png"] if by_epoch else ["iter_3.png", "iter_6.png"]
    assert sorted(path.name for path in (tmp_path / "vis").iterdir()) == names
    grid = read_png(tmp_path / "pyramid.png")
    assert (grid == read_png(tmp_path / "vis" / names[1])).all()
    # The network changed in between, the images shown did not: compare the last column.
    first = read_png(tmp_path / "vis" / names[0])
    assert (grid != first).any() and (grid[:, -130:] == first[:, -130:]).all()
    # Every picture is written once: the backends that write PNGs got none.
    assert len(list(tmp_path.rglob("*.png"))) == 3
    assert [(name, step) for name, _, step in images] == [
        ("pyramid", 1 if by_epoch else 3),
        ("pyramid", 2 if by_epoch else 6),
    ]
    assert (images[1][1] == grid).all()
    assert not list(tmp_path.rglob("*.part"))


def test_shows_images_spread_over_the_data_set(tmp_path):
    runner = make_runner(tmp_path, custom_hooks=[HOOK])
    runner.test()
    chosen = [make_image(i) for i in (0, 2, 4)]  # 3 of 7
    with torch.no_grad():
        samples = [DataSample(img_color=image, img_gray=make_gray(image)) for image in chosen]
        outputs = runner.model(None, samples, "predict")
        expected = pyramid_grid([read_images(sample) for sample in outputs])
    assert (read_png(tmp_path / "pyramid.png") == expected).all()
    settings = json.loads((tmp_path / "results.json").read_text())["settings"]
    assert settings["split"] == "test" and "epoch" not in settings
    assert not (tmp_path / "vis").exists()


def test_more_rows_than_images(tmp_path):
    make_runner(tmp_path, custom_hooks=[dict(HOOK, num_images=50)]).val()
    assert read_png(tmp_path / "pyramid.png").shape[0] > NUM_IMAGES * 128


def test_diverged_model(tmp_path):
    runner = make_runner(tmp_path, custom_hooks=[HOOK])
    runner.model.gain.data.fill_(float("nan"))
    runner.val()
    text = (tmp_path / "results.json").read_text()
    assert "NaN" not in text and json.loads(text)["G1"]["MSE"] is None


def test_cyclegan(tmp_path):
    """mmagic's CycleGAN goes through the same code: no pyramid, bytes for the real images."""

    def collate(batch):
        keys = ("img_gray", "img_color")
        images = {key: [item["data_samples"].get(key) for item in batch] for key in keys}
        return dict(inputs=images, data_samples=[item["data_samples"] for item in batch])

    runner = make_runner(tmp_path, custom_hooks=[HOOK], model=CYCLEGAN)
    runner.val_loop.dataloader.collate_fn = collate
    runner.val()
    results = json.loads((tmp_path / "results.json").read_text())
    assert list(results) == ["gray", "G1", "G1_projected", "settings"]
    expected = np.mean(
        [
            ((make_gray(image).double() - image.double()) ** 2).mean().item()
            for image in map(make_image, range(NUM_IMAGES))
        ]
    )
    assert results["gray"]["MSE"] == pytest.approx(expected)
    assert read_png(tmp_path / "pyramid.png").shape[1] < 4 * 140


def test_needs_no_more_than_one_metric(tmp_path):
    runner = make_runner(tmp_path, custom_hooks=[HOOK])
    metrics = runner.val_loop.evaluator.metrics
    metrics *= 2
    with pytest.raises(ValueError, match=r"needs one ColorizationMetric .* ValLoop, found 2"):
        runner.val()
    metrics.clear()
    lines = []
    runner.logger.warning = lambda text, *args: lines.append(text)
    runner.val()
    assert "reports nothing of ValLoop: its evaluator has no ColorizationMetric." in lines[0]
    assert not (tmp_path / "results.json").exists()
    with pytest.raises(ValueError, match="at least 1, got 0"):
        ColorizationReportHook(num_images=0)


class TinyInception(torch.nn.Module):
    """Called as StyleGAN's TorchScript network is: bytes in, features out."""

    def forward(self, images: torch.Tensor, return_features: bool) -> torch.Tensor:
        return images.float().flatten(2).mean(2) if return_features else images.float()


def narrow_demo(tmp_path, loop, metrics):
    cfg = Config.fromfile(Path(__file__).parents[2] / "configs" / "spynco_exact_demo.py")
    cfg.merge_from_dict(
        {
            "work_dir": str(tmp_path),
            "experiment_name": tmp_path.name,
            "model.generator.base_channels": 2,
            "model.generator.num_blocks": 1,
            "default_hooks.checkpoint.save_best": None,  # wants a training
            "val_dataloader.dataset.indices": 8,
            "val_dataloader.num_workers": 0,
            "val_dataloader.persistent_workers": False,
            "log_level": "WARNING",
        }
    )
    cfg.val_cfg, cfg.val_evaluator = dict(type=loop), metrics
    return Runner.from_cfg(cfg)


@pytest.fixture
def fid(tmp_path):
    """mmagic's FID with weights that are there."""
    path = tmp_path / "inception.pt"
    torch.jit.script(TinyInception()).save(str(path))
    return dict(
        type="TransFID",
        prefix="FID",
        fake_nums=8,
        real_nums=8,
        fake_key="fake_color",
        real_key="img_color",
        sample_model="orig",
        inception_path=str(path),
        inception_pkl=str(tmp_path / "real.pkl"),
    )


def test_mmagics_fid_beside_ours(tmp_path, fid):
    runner = narrow_demo(tmp_path, "MultiValLoop", [dict(type="ColorizationMetric"), fid])
    found = validate(runner)
    assert found["FID/fid"] > 0 and found["G1/CIEDE2000"] > 0
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["G1"]["MSE"] == found["G1/MSE"]

    runner.val_loop.evaluators[0].metrics.pop(0)
    found = validate(runner)  # FID alone
    assert list(found) == ["FID/fid", "FID/mean", "FID/cov"]


def test_mmagics_fid_in_mmengines_loop(tmp_path, fid):
    runner = narrow_demo(tmp_path, "ValLoop", [dict(type="ColorizationMetric"), fid])
    with pytest.raises(ValueError, match=r"TransFID is a metric .* val_cfg=.*type='MultiValLoop'"):
        runner.val()
