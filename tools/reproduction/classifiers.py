"""The classifiers of the cross-domain study (sections 5.3 and 6.2.3)."""

import torch
import torch.nn.functional as F
import torchvision
from mmagic.registry import MODELS
from mmagic.structures import DataSample
from mmengine.model import BaseModel
from mmengine.structures import LabelData
from torch import Tensor, nn


def alexnet_bn(num_classes: int) -> nn.Module:
    """torchvision's AlexNet with batch norm after each convolution."""
    network = torchvision.models.alexnet(num_classes=num_classes)
    layers = []
    for layer in network.features:
        layers.append(layer)
        if isinstance(layer, nn.Conv2d):
            layers.append(nn.BatchNorm2d(layer.out_channels))
    network.features = nn.Sequential(*layers)
    return network


CLASSIFIERS = {"alexnet_bn": alexnet_bn, "vgg16": torchvision.models.vgg16}


@MODELS.register_module()
class ImageClassifier(BaseModel):
    """A network that names the class of an image, trained by cross entropy from scratch.

    Args:
        network: ``alexnet_bn`` or ``vgg16``.
        num_classes: Classes.
        image_size: Images are enlarged to this before the network (section 5.3: 256).
        data_preprocessor: Config of mmagic's ``DataPreprocessor``, to [-1, 1].

    Raises:
        ValueError: There is no such network, there are fewer than two classes, or the images would
            be smaller than the network's pooling allows.
    """

    def __init__(
        self,
        network: str,
        num_classes: int,
        image_size: int = 256,
        data_preprocessor: dict | None = None,
    ):
        super().__init__(data_preprocessor or dict(type="DataPreprocessor"))
        if network not in CLASSIFIERS:
            raise ValueError(
                f"ImageClassifier: there is no network '{network}'; use {' or '.join(CLASSIFIERS)}."
            )
        if num_classes < 2 or image_size < 64:
            raise ValueError(
                "ImageClassifier needs at least 2 classes and an image_size of at least 64, got "
                f"num_classes={num_classes}, image_size={image_size}."
            )
        self.network = CLASSIFIERS[network](num_classes=num_classes)
        self.image_size = image_size

    def forward(
        self,
        inputs: Tensor,
        data_samples: list[DataSample] | None = None,
        mode: str = "tensor",
    ) -> "Tensor | dict | list[DataSample]":
        """Classify N×3×H×W images in [-1, 1].

        Args:
            inputs: The images.
            data_samples: One per image, with its ``gt_label``.
            mode: As in every mmengine model.

        Returns:
            ``tensor``: N×num_classes scores; ``loss``: the cross entropy; ``predict``: the samples
            with ``pred_label``.
        """
        size = (self.image_size, self.image_size)
        scores = self.network(F.interpolate(inputs, size, mode="bilinear", antialias=True))
        if mode == "tensor":
            return scores
        if mode == "loss":
            labels = torch.cat([sample.gt_label.label for sample in data_samples])
            return dict(loss=F.cross_entropy(scores, labels.to(scores.device)))
        for sample, label in zip(data_samples, scores.argmax(dim=1, keepdim=True)):
            sample.set_field(LabelData(label=label), "pred_label")
        return data_samples
