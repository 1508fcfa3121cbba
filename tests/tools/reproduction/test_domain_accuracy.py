import torch
from mmagic.structures import DataSample

from reproduction.colorized_set import ColorizedSetWriter
from reproduction.domain_accuracy import DomainAccuracy
from spynco_mm.datasets import FolderColorization


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
