import pytest
import torch
from mmagic.structures import DataSample

from spynco_mm.datasets import FolderColorization
from spynco_mm.evaluation import ColorizationMetric, ColorizedSetWriter, DomainAccuracy


def sample(domain, truth, guess):
    return dict(
        img_path=f"/data/sets/{domain}/test/cat/000001.png",
        gt_label=dict(label=torch.tensor([truth])),
        pred_label=dict(label=torch.tensor([guess])),
    )


def test_percentage_by_domain():
    metric = DomainAccuracy()
    metric.process(None, [sample("real_gray", 1, 1), sample("G1_010", 0, 1)])
    metric.process(None, [sample("G1_010", 2, 2), sample("G1_010", 1, 0), sample("G1_010", 1, 1)])
    assert metric.evaluate(size=5) == {"real_gray/top1": 100.0, "G1_010/top1": 50.0}


def test_written_set_is_read_back_with_its_labels(tmp_path):
    writer = ColorizedSetWriter({"fake_color": str(tmp_path / "G1" / "test")})
    writer.dataset_meta = dict(classes=("cat", "dog"))
    torch.manual_seed(0)
    images = torch.rand(3, 3, 16, 16) * 300 - 20  # BGR, partly out of range
    samples = []
    for index, (image, label) in enumerate(zip(images, (1, 0, 1))):
        one = DataSample(fake_color=image, metainfo=dict(sample_idx=index)).set_gt_label(label)
        samples.append(one.to_dict())
    writer.process(None, samples)
    assert writer.evaluate(size=3) == {"images": 3}
    dataset = FolderColorization(
        str(tmp_path / "G1"), color_dir=dict(test="test"), class_folders=True, test_mode=True
    )
    assert dataset.metainfo["classes"] == ("cat", "dog")
    assert [dataset[i]["gt_label"] for i in range(3)] == [0, 1, 1]  # sorted by class
    for row, index in enumerate((1, 0, 2)):
        expected = images[index].clamp(0, 255).round().flip(0).permute(1, 2, 0)
        assert (torch.from_numpy(dataset[row]["img_color"]) == expected).all()


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
