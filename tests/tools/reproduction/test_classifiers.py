import pytest
import torch
import torchvision
from mmagic.registry import MODELS
from mmagic.structures import DataSample
from mmengine.config import Config
from torch import nn

from reproduction.classifiers import alexnet_bn
from reproduction.study import OWN_CONFIGS


def test_alexnet_has_batch_norm_after_each_convolution_and_is_torchvisions_else():
    network = alexnet_bn(10)
    layers = list(network.features)
    for i, layer in enumerate(layers):
        if isinstance(layer, nn.Conv2d):
            assert isinstance(layers[i + 1], nn.BatchNorm2d)
            assert layers[i + 1].num_features == layer.out_channels
    without = [repr(layer) for layer in layers if not isinstance(layer, nn.BatchNorm2d)]
    plain = torchvision.models.alexnet(num_classes=10)
    assert without == [repr(layer) for layer in plain.features]
    assert repr(network.classifier) == repr(plain.classifier)
    assert sum(isinstance(layer, nn.BatchNorm2d) for layer in layers) == 5


def samples(labels):
    return [DataSample().set_gt_label(label) for label in labels]


def test_loss_prediction_and_size(monkeypatch):
    model = MODELS.build(
        dict(type="ImageClassifier", network="alexnet_bn", num_classes=3, image_size=80)
    )
    scores = torch.tensor([[0.0, 3.0, 1.0], [2.0, 0.0, 0.0]])
    seen = []
    monkeypatch.setattr(model.network, "forward", lambda x: seen.append(x.shape) or scores)
    images = torch.zeros(2, 3, 32, 32)
    loss = model(images, samples([2, 0]), mode="loss")["loss"]
    # By hand: mean of log(1 + e^3 + e) - 1 and log(e^2 + 2) - 2.
    e = torch.tensor(1.0).exp()
    expected = ((1 + e**3 + e).log() - 1 + (e**2 + 2).log() - 2) / 2
    torch.testing.assert_close(loss, expected)
    predicted = model(images, samples([2, 0]), mode="predict")
    assert [sample.pred_label.label.item() for sample in predicted] == [1, 0]
    assert seen == [(2, 3, 80, 80)] * 2


def test_configs_are_section_5_3s():
    for name, epochs, milestones in (("alexnet_bn", 20, [7, 13]), ("vgg16", 40, [13, 26])):
        cfg = Config.fromfile(OWN_CONFIGS / f"{name}.py")
        assert cfg.model.network == name and cfg.model.image_size == 256
        assert cfg.train_cfg.max_epochs == epochs
        assert cfg.optim_wrapper.optimizer.lr == 1e-4
        assert cfg.param_scheduler[0].milestones == milestones
        assert cfg.param_scheduler[0].gamma == 0.1


@pytest.mark.parametrize(
    "wrong, message",
    [
        (dict(network="resnet"), "there is no network 'resnet'; use alexnet_bn or vgg16"),
        (dict(num_classes=1), "at least 2 classes"),
        (dict(image_size=32), "image_size of at least 64"),
    ],
)
def test_errors(wrong, message):
    config = dict(type="ImageClassifier", network="alexnet_bn", num_classes=10)
    with pytest.raises(ValueError, match=message):
        MODELS.build({**config, **wrong})
