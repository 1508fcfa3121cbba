import multiprocessing.reduction
import pickle

import pytest
from mmagic.registry import MODELS
from same_batches import assert_same, stacked_by_mmengine

from spynco_mm.datasets import EmbeddedPhotographs, colorization_collate

KEYS = ["img_gray", "img_color"]
PACK = dict(type="PackInputs", keys=KEYS, data_keys=KEYS)
PACK["meta_keys"] = ["sample_idx", *(f"{key}_channel_order" for key in KEYS)]


@pytest.fixture
def photographs():
    pipeline = [dict(type="HandcraftedTranslation"), PACK]
    return EmbeddedPhotographs(photos=["coffee"], crop_size=16, pipeline=pipeline)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("received", [True, False], ids=["received", "at home"])
@pytest.mark.parametrize(
    "settings",
    [
        dict(output_channel_order="RGB", data_keys=KEYS),
        dict(output_channel_order="BGR", data_keys=KEYS, pad_size_divisor=5),
        dict(mean=None, std=None, data_keys=None),
    ],
)
def test_preprocessed_as_mmagic_does(photographs, training, received, settings):
    indices = [(index, 40 + index) for index in range(5)]
    items = [photographs[index] for index in indices]
    mmagics, ours = (
        MODELS.build(dict(type=name, **settings))
        for name in ("DataPreprocessor", "BatchDataPreprocessor")
    )
    expected = mmagics(stacked_by_mmengine(items), training)
    for batch in (items, photographs.__getitems__(indices)):
        batches = [colorization_collate(batch) for _ in range(2)]
        if received:  # from a worker
            dumps = multiprocessing.reduction.ForkingPickler.dumps
            batches = [pickle.loads(dumps(batch)) for batch in batches]
        assert_same(expected, mmagics(batches[0], training))
        assert_same(expected, ours(batches[1], training))
    # Without a collate function that knows of batches, it is mmagic's way.
    assert_same(expected, ours(stacked_by_mmengine(items), training))


@pytest.mark.parametrize("training", [True, False])
def test_pictures_of_several_sizes(training):
    """They would be trained on with black borders, and could not be stacked."""
    pipeline = [dict(type="HandcraftedTranslation"), PACK]
    items = [
        EmbeddedPhotographs(photos=["coffee"], crop_size=size, pipeline=pipeline)[0]
        for size in (16, 20)
    ]
    settings = dict(type="BatchDataPreprocessor", output_channel_order="RGB", data_keys=KEYS)
    with pytest.raises(ValueError, match=r"'img_gray' of a batch are .* such as 16×16 and 20×20;"):
        MODELS.build(settings)(colorization_collate(items), training)
    padded = MODELS.build(dict(settings, stack_data_sample=False))
    if training:
        with pytest.raises(ValueError, match="of several sizes"):
            padded(colorization_collate(items), training)
    else:
        assert padded(colorization_collate(items))["inputs"]["img_gray"].shape == (2, 3, 20, 20)


def test_samples_of_which_only_some_have_labels(photographs):
    items = [photographs[0], photographs[1]]
    items[0]["data_samples"].set_data(dict(label_of_some=3))
    settings = dict(type="BatchDataPreprocessor", output_channel_order="RGB", data_keys=KEYS)
    with pytest.raises(ValueError, match="Only some samples of a batch have label_of_some; let"):
        MODELS.build(settings)(colorization_collate(items), True)
    alone = MODELS.build(dict(settings, stack_data_sample=False))
    assert len(alone(colorization_collate(items), True)["data_samples"]) == 2
