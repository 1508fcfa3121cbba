import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from forked import python_path
from mmengine.evaluator import Evaluator
from mmengine.registry import METRICS
from skimage.color import deltaE_ciede2000, rgb2lab
from skimage.metrics import structural_similarity
from toy_colorizer import (
    NUM_IMAGES,
    ToyColorizer,
    ToyImages,
    make_gray,
    make_image,
    make_runner,
    validate,
)

from spynco_mm.evaluation import ColorizationMetric, format_table, results_dict

SCORES = ("MSE", "PSNR", "SSIM")
COLOR_SCORES = ("CIEDE2000", "concordance", "colorfulness", "colorfulness_error", "luma_error")
BT601 = np.array([0.299, 0.587, 0.114])


def toy_samples(sizes=(16,), **kwargs):
    model, data = ToyColorizer(**kwargs), ToyImages(sizes)
    with torch.no_grad():
        return model(None, [data[i]["data_samples"] for i in range(NUM_IMAGES)], "predict")


def projected(image, gray):
    """The image of that grey, H×W×3, with the chroma of another, pixel by pixel within range."""
    chroma = image - (image @ BT601)[..., None]
    limits = np.where(chroma > 0, 255 - gray, gray) / np.maximum(abs(chroma), 1e-12)
    return gray + np.minimum(limits.min(axis=2, keepdims=True), 1) * chroma


def colorfulness(image):
    rg, yb = image[..., 0] - image[..., 1], (image[..., 0] + image[..., 1]) / 2 - image[..., 2]
    return np.hypot(rg.std(), yb.std()) + 0.3 * np.hypot(rg.mean(), yb.mean())


def color_scores(image, gray, real):
    """Of H×W×3, RGB."""
    lab, real_lab = rgb2lab(image / 255), rgb2lab(real / 255)
    c, r = lab[..., 1:], real_lab[..., 1:]
    return [
        deltaE_ciede2000(lab, real_lab).mean(),
        2 * (c * r).sum() / ((c * c).sum() + (r * r).sum()),
        colorfulness(image),
        abs(colorfulness(image) - colorfulness(real)),
        abs(image @ BT601 - gray[..., 0]).mean(),
    ]


def by_hand(samples, **ssim_kwargs):
    """The table, image by image, by numpy and scikit-image."""
    rows = {}
    for sample in samples:

        def rgb(image):
            return image.clamp(0, 255).numpy().astype(float)[::-1].transpose(1, 2, 0)

        real, gray = rgb(sample.img_color), rgb(sample.img_gray)
        images = {"gray": gray}
        images.update(
            (f"G{i}", rgb(output)) for i, output in enumerate(sample.fake_color_pyramid, start=1)
        )
        images["G1_projected"] = projected(images["G1"], gray)
        for name, image in images.items():
            error = ((image - real) ** 2).mean()
            similarity = structural_similarity(
                image, real, channel_axis=2, data_range=255, **ssim_kwargs
            )
            scores = [error, 10 * np.log10(255**2 / error), similarity]
            rows.setdefault(name, []).append([*scores, *color_scores(image, gray, real)])
    return {
        f"{name}/{score}": value
        for name, row in rows.items()
        for score, value in zip((*SCORES, *COLOR_SCORES), np.mean(row, axis=0))
    }


def assert_equal(found, expected):
    """To what doubles and, for colours, floats of single precision can hold."""
    assert list(found) == list(expected)
    for name, value in expected.items():
        single = name.split("/")[-1] in COLOR_SCORES or "projected" in name
        assert found[name] == pytest.approx(value, abs=1e-4 if single else 1e-6), name


@pytest.mark.parametrize("sizes", [(16,), (16, 24)])
def test_equal_to_scikit_image(sizes):
    samples = toy_samples(sizes)
    found = Evaluator(dict(type="mmagic.ColorizationMetric")).offline_evaluate(
        samples, chunk_size=3
    )
    expected = by_hand(samples)
    assert_equal(found, expected)
    # the grey row and the order of the pyramid
    assert found["G1/MSE"] < found["G2/MSE"] < found["G3/MSE"] < found["gray/MSE"]
    assert found["G1/concordance"] > found["G2/concordance"] > found["G3/concordance"] > 0.3
    # What grey has.
    assert abs(found["gray/concordance"]) < 1e-3 and found["gray/colorfulness"] < 1e-3
    assert found["G1_projected/luma_error"] < 1e-4 < 1 < found["G1/luma_error"]


def test_gaussian_window_and_prefix():
    metric = ColorizationMetric(window="gaussian", prefix="toy")
    samples = toy_samples()
    found = Evaluator(metric).offline_evaluate(samples, chunk_size=4)
    expected = by_hand(samples, gaussian_weights=True, sigma=1.5, use_sample_covariance=False)
    assert_equal(found, {f"toy/{k}": v for k, v in expected.items()})
    assert metric.settings == dict(
        data_range=255,
        gray_weights=[0.299, 0.587, 0.114],
        channels="mean",
        outputs="clamped to [0, 255], not rounded",
        psnr_cap_db=100.0,
        ssim_window="gaussian",
        ssim_window_size=11,
        ssim_sample_covariance=False,
        ssim_sigma=1.5,
        num_images=NUM_IMAGES,
    )


def test_model_without_pyramid():
    found = Evaluator(ColorizationMetric()).offline_evaluate(toy_samples(pyramid=False))
    expected = by_hand(toy_samples())
    rows = ("gray", "G1", "G1_projected")
    assert_equal(found, {k: v for k, v in expected.items() if k.split("/")[0] in rows})


@pytest.mark.parametrize("uint8_mse", [False, True])
def test_images_that_are_not_rgb(uint8_mse):
    image = torch.rand(8, 16, 16) * 255
    metric = ColorizationMetric(uint8_mse=uint8_mse)
    metric.process(None, [dict(img_color=image, img_gray=image[:1], fake_color=image / 2)])
    found = metric.evaluate(1)
    scores = (*SCORES, "MSE_uint8") if uint8_mse else SCORES
    assert list(found) == [f"{row}/{score}" for row in ("gray", "G1") for score in scores]


def test_mse_in_bytes_is_one_more_column():
    samples = toy_samples()
    plain, more = (
        Evaluator(ColorizationMetric(uint8_mse=x)).offline_evaluate(samples) for x in (False, True)
    )
    added = {f"{row}/MSE_uint8" for row in ("gray", "G1", "G2", "G3", "G1_projected")}
    assert set(more) - set(plain) == added and plain == {k: more[k] for k in plain}
    output, real = (
        np.stack([s.get(key).clamp(0, 255).round().byte().numpy() for s in samples])
        for key in ("fake_color", "img_color")
    )
    assert more["G1/MSE_uint8"] == pytest.approx(np.mean((output - real) ** 2))
    table = format_table(results_dict(more))
    assert "MSE in bytes" in table and "modulo 256" in table
    assert "MSE in bytes" not in format_table(results_dict(plain))


def test_one_channel_gray_and_other_names():
    image = make_image(0)
    sample = dict(b=image, a=make_gray(image)[:1], fake_b=image.float())
    metric = ColorizationMetric(fake_key="fake_b", gt_key="b", gray_key="a")
    metric.process(None, [sample])
    found = metric.evaluate(1)
    assert found["gray/MSE"] == pytest.approx(
        ((make_gray(image).double() - image.double()) ** 2).mean().item()
    )
    # An image without error counts as 100 dB: one infinity would be the mean of all.
    assert (found["G1/MSE"], found["G1/PSNR"]) == (0, 100)


def test_outputs_are_clamped_and_not_rounded():
    real = torch.zeros(3, 8, 8, dtype=torch.uint8)
    for value, error in ((-50.0, 0), (300.0, 255**2), (0.5, 0.25)):
        metric = ColorizationMetric()
        metric.process(
            None, [dict(img_color=real, img_gray=real, fake_color=torch.full((3, 8, 8), value))]
        )
        assert metric.evaluate(1)["G1/MSE"] == error


def test_errors_are_one_sentence():
    metric = ColorizationMetric()
    image = make_image(0)
    with pytest.raises(KeyError, match="lacks img_gray, fake_color, it has img_color"):
        metric.process(None, [dict(img_color=image)])
    with pytest.raises(ValueError, match=r"differ in shape: img_gray \(3, 16, 16\)"):
        metric.process(
            None, [dict(img_color=image, img_gray=image, fake_color=make_image(0, 8).float())]
        )
    with pytest.raises(ValueError, match="no image to evaluate"):
        metric.evaluate(0)
    with pytest.raises(ValueError, match="one of uniform, gaussian, got 'box'"):
        METRICS.build(dict(type="mmagic.ColorizationMetric", window="box"))


def test_two_processes_count_every_image_once(tmp_path):
    """Seven images over two processes, with mmengine's loop and mmagic's, against one process."""
    found = {}
    for name in ("plain", "multi"):
        found[name] = validate(make_runner(tmp_path / "one" / name, multi_loop=name == "multi"))
        assert_equal(found[name], by_hand(toy_samples()))
    root = Path(__file__).parents[2]
    launcher = (
        # On the loopback device: the machine's own name need not resolve.
        "-m torch.distributed.run --nproc-per-node 2 --rdzv-backend c10d "
        "--rdzv-endpoint 127.0.0.1:0 --local-addr 127.0.0.1"
    )
    script = Path(__file__).with_name("toy_colorizer.py")
    subprocess.run(
        [sys.executable, *launcher.split(), str(script), str(tmp_path)],
        cwd=tmp_path,  # mmengine exchanges results through a folder .dist_test here
        env={**os.environ, "PYTHONPATH": python_path(root), "OMP_NUM_THREADS": "1"},
        check=True,
        timeout=120,
    )
    for rank in range(2):
        distributed = json.loads((tmp_path / f"rank{rank}.json").read_text())
        for name in ("plain", "multi"):
            assert distributed[name] == pytest.approx(found[name], rel=1e-12, abs=0)


@pytest.mark.parametrize("key", ["photo", "img_path"])
def test_scores_per_photograph(key):
    metric = ColorizationMetric(per_photograph=True)
    real = torch.zeros(3, 8, 8)

    def crop(photo, error):
        return dict(img_color=real, img_gray=real, fake_color=real + error, **{key: photo})

    metric.process(None, [crop("a", 1.0), crop("b", 4.0), crop("a", 3.0)])
    total = metric.evaluate(size=3)
    # Two crops of a: (1 + 9) / 2 = 5; one of b: 16; all: 26 / 3.
    assert metric.photographs["a"]["G1/MSE"] == 5
    assert metric.photographs["b"]["G1/MSE"] == 16
    assert metric.photographs["b"]["gray/MSE"] == 0
    assert total["G1/MSE"] == pytest.approx(26 / 3)
