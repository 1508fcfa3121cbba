import numpy as np
import pytest
import torch
from mmagic.registry import DATASETS, MODELS, TRANSFORMS
from mmengine.dataset import Compose, default_collate
from mmengine.runner import Runner
from PIL import Image

from spynco_mm.datasets import DataError, HandcraftedTranslationTransform, LoadImage
from spynco_mm.models.translations import HandcraftedTranslation

KEYS = ["img_gray", "img_color"]
RGB = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)


def translate(image, order="rgb", **kwargs):
    transform = HandcraftedTranslationTransform(**kwargs)
    return transform(dict(img_gray=image, img_gray_channel_order=order))


@pytest.mark.parametrize("weights", ["bt601", "bt709", "mean", (0.2, 0.3, 0.5)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_same_numbers_as_the_model(weights, dtype):
    image = RGB.astype(dtype)
    gray = translate(image, weights=weights)["img_gray"]
    tensor = torch.from_numpy(RGB).permute(2, 0, 1)[None].float()
    expected = HandcraftedTranslation(weights)(tensor)[0, 0].numpy()
    assert gray.dtype == np.float32 and gray.shape == (5, 7, 3)
    for channel in range(3):
        np.testing.assert_array_equal(gray[..., channel], expected)
    np.testing.assert_array_equal(image, RGB)  # not changed in place


def test_equation_1_by_hand():
    image = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]], np.uint8)
    gray = translate(image, replicate=1)["img_gray"]
    np.testing.assert_allclose(gray[0, :, 0], [76.245, 149.685, 29.07, 255], rtol=1e-6)


def test_replicate_and_channel_order():
    one = translate(RGB, replicate=1)
    assert one["img_gray"].shape == (5, 7, 1) and one["img_gray_channel_order"] == "single"
    three = translate(RGB[..., ::-1], order="bgr")
    assert three["img_gray_channel_order"] == "rgb"
    np.testing.assert_array_equal(three["img_gray"], np.repeat(one["img_gray"], 3, axis=2))


def test_matrix():
    swap = [[0, 0, 1], [0, 1, 0], [1, 0, 0]]
    np.testing.assert_array_equal(
        translate(RGB, weights=swap, replicate=1)["img_gray"], RGB[..., ::-1]
    )
    with pytest.raises(ValueError, match="replicate=3 does not fit a translation to 3 channel"):
        HandcraftedTranslationTransform(weights=swap)


def test_bad_input():
    with pytest.raises(ValueError, match=r"results\['img_gray_channel_order'\] is 'none'"):
        HandcraftedTranslationTransform()(dict(img_gray=RGB))
    with pytest.raises(ValueError, match=r"has the shape \(5, 7\)"):
        translate(RGB[..., 0])
    with pytest.raises(ValueError, match="takes N×3×H×W"):
        translate(RGB[..., :1])


def test_registered_name_and_repr():
    transform = TRANSFORMS.build(dict(type="HandcraftedTranslation", keys="img_gray"))
    assert isinstance(transform, HandcraftedTranslationTransform)
    assert "keys=('img_gray',)" in repr(transform)


def test_load_image_for_the_inferencer(tmp_path):
    wide = RGB[..., 0].astype(np.uint16) * 257
    Image.fromarray(wide).save(tmp_path / "a.png")
    results = TRANSFORMS.build(dict(type="LoadImage", key="img_A", out_key="img_gray"))(
        dict(img_A_path=str(tmp_path / "a.png"))
    )
    assert results["img_gray_channel_order"] == "rgb"
    np.testing.assert_array_equal(results["img_gray"], np.repeat(RGB[..., :1], 3, axis=2))
    with pytest.raises(DataError, match="no such file"):
        LoadImage()(dict(img_A_path=str(tmp_path / "b.png")))


@pytest.mark.parametrize(
    "collate, num_workers",
    [("pseudo_collate", 0), ("default_collate", 0), ("colorization_collate", 2)],
)
@pytest.mark.parametrize("training", [True, False])
def test_end_to_end_through_mmagics_data_preprocessor(collate, num_workers, training):
    flips = [dict(type="Flip", keys=["img_gray"]), dict(type="Flip", keys=["img_color"])]
    pipeline = [
        *(flips if training else []),
        dict(type="HandcraftedTranslation"),
        dict(
            type="PackInputs",
            keys=KEYS,
            data_keys=KEYS,
            meta_keys=["img_path", "sample_idx", "photo", *(f"{k}_channel_order" for k in KEYS)],
        ),
    ]
    dataset = DATASETS.build(
        dict(
            type="EmbeddedPhotographs", photos=["flower"], pipeline=pipeline, test_mode=not training
        )
    )
    loader = Runner.build_dataloader(
        dict(
            dataset=dataset,
            batch_size=4,
            num_workers=num_workers,
            collate_fn=dict(type=collate),
            sampler=dict(type="EpochSampler", shuffle=False),
        ),
        seed=0,
    )
    preprocessor = MODELS.build(
        dict(
            type="DataPreprocessor",
            mean=127.5,
            std=127.5,
            output_channel_order="RGB",
            data_keys=KEYS,
        )
    )
    data = preprocessor(next(iter(loader)), training)
    inputs, samples = data["inputs"], data["data_samples"]
    assert inputs["img_gray"].shape == inputs["img_color"].shape == (4, 3, 32, 32)
    for image in inputs.values():
        assert image.dtype == torch.float32 and -1 <= image.min() < image.max() <= 1
    assert samples.sample_idx == [0, 1, 2, 3] and samples.photo == ["flower"] * 4
    assert samples.gt_label.label.flatten().tolist() == [0] * 4
    assert len(samples.split(allow_nonseq_value=True)) == 4
    gray = HandcraftedTranslation()(inputs["img_color"]).expand(4, 3, 32, 32)
    if training:
        assert not torch.allclose(gray, inputs["img_gray"], atol=0.1)
        assert torch.equal(samples.img_color, inputs["img_color"])
    else:
        torch.testing.assert_close(gray, inputs["img_gray"])
        # mmagic hands the reference to the metrics as it was, but BGR.
        expected = np.stack([dataset.item(i)["img_color"] for i in range(4)]).transpose(0, 3, 1, 2)
        np.testing.assert_array_equal(samples.img_color, expected[:, ::-1])


def test_the_way_of_mmagics_translation_inferencer(tmp_path):
    """``TranslationInferencer.preprocess`` with a grey picture of 16 bits."""
    wide = RGB[..., 0].astype(np.uint16) * 257
    Image.fromarray(wide).save(tmp_path / "a.png")
    path = str(tmp_path / "a.png")
    pipeline = Compose(
        [
            dict(type="LoadImage", key="img_A", out_key="img_gray"),
            # PackInputs unwraps a single key, and the inferencer wants a dict.
            dict(type="LoadImage", key="img_B", out_key="img_color"),
            dict(type="HandcraftedTranslation"),
            dict(type="PackInputs", keys=KEYS, meta_keys=[f"{key}_channel_order" for key in KEYS]),
        ]
    )
    data = default_collate([pipeline(dict(pair_path=path, img_A_path=path, img_B_path=path))])
    preprocessor = MODELS.build(
        dict(type="DataPreprocessor", output_channel_order="RGB", data_keys=None)
    )
    inputs = preprocessor(data, False)["inputs"]
    expected = torch.from_numpy(RGB[..., 0]).float() / 127.5 - 1
    for channel in inputs["img_gray"][0]:
        torch.testing.assert_close(channel, expected)
