"""Losses over an Output Spatial Pyramid, and the contours loss (section 4.2)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmagic.models.losses.loss_wrapper import mask_reduce_loss
from mmagic.registry import MODELS
from torch import Tensor, nn

from .ops.backend import full_precision


@MODELS.register_module()
class OSPLoss(nn.Module):
    """Any image loss, as a weighted sum over the outputs of a pyramid (Eqs. 4 to 9).

    .. math:: L^{1..N} = \\sum_{i=1}^N w_i \\, L(O_i, target)

    Terms of weight 0 are not computed.

    Args:
        loss: Config of a registered loss that is called as ``loss(pred, target, **kwargs)``, such
            as mmagic's ``L1Loss`` or ``GANLoss``. Of one that returns several parts, such as
            ``PerceptualLoss``, they are added up; parts that are None do not count.
        weights: One weight for each output, final output first.
    """

    def __init__(self, loss: dict | nn.Module, weights: Sequence[float]):
        super().__init__()
        self.loss = MODELS.build(loss) if isinstance(loss, dict) else loss
        if not len(weights) or any(w < 0 for w in weights):
            raise ValueError(
                "OSPLoss needs one non-negative weight for each output of the pyramid, got "
                f"{tuple(weights)}."
            )
        self.weights = tuple(float(w) for w in weights)

    @property
    def num_outputs(self) -> int:
        """How many outputs it looks at: the position of the last weight that is not 0."""
        return max((i for i, w in enumerate(self.weights, 1) if w), default=0)

    def forward(self, pyramid: Sequence[Tensor] | Tensor, target, **kwargs) -> Tensor:
        """The weighted sum.

        Args:
            pyramid: List of tensors, final output first. Outputs that have weight 0 may be left out
                at its end. A single tensor is a pyramid of one.
            target: What each output is compared with: an image, or whatever the loss takes.
            **kwargs: Passed to the loss.

        Raises:
            ValueError: If the numbers of outputs and weights do not fit.
        """
        pyramid = [pyramid] if isinstance(pyramid, Tensor) else pyramid
        if not self.num_outputs <= len(pyramid) <= len(self.weights):
            raise ValueError(
                f"OSPLoss has weights {self.weights} but got a pyramid of {len(pyramid)} outputs; "
                "give one weight for each output."
            )
        losses = [(w, self.loss(o, target, **kwargs)) for o, w in zip(pyramid, self.weights) if w]
        terms = [w * (x if isinstance(x, Tensor) else _sum(x)) for w, x in losses]
        return sum(terms) if terms else pyramid[0].new_zeros(())


def _sum(parts: Sequence[Tensor | None]) -> Tensor:
    return sum(part for part in parts if part is not None)


@MODELS.register_module()
class ContoursLoss(nn.Module):
    """L1 distance of the Sobel contours of H_t of two images (Eq. 9).

    .. math:: L(O, I) = E[ | S_k(H_t(O)) - S_k(I) | ]

    S_k holds the horizontal and the vertical Sobel kernel ([1 2 1]ᵀ [-1 0 1], not normalised); the
    mean runs over both. It is linear, so it is applied once, to H_t(O) − I. Borders are replicated,
    so that they make no contour of their own.

    Args:
        translation: Config or module of H_t. Domains with different numbers of channels, since that
            is how it tells which images to translate.
        loss_weight: Factor of the loss.
    """

    def __init__(self, translation: dict | nn.Module | None = None, loss_weight: float = 1.0):
        super().__init__()
        translation = translation or dict(type="HandcraftedTranslation")
        self.translation = (
            MODELS.build(translation) if isinstance(translation, dict) else translation
        )
        if self.translation.in_channels == self.translation.out_channels:
            raise ValueError(
                f"ContoursLoss cannot tell an image of domain A from one of B if both have "
                f"{self.translation.in_channels} channels; use a translation to fewer channels."
            )
        self.loss_weight = loss_weight
        horizontal = torch.outer(torch.tensor([1.0, 2.0, 1.0]), torch.tensor([-1.0, 0.0, 1.0]))
        kernel = torch.stack([horizontal, horizontal.T])[:, None]
        self.register_buffer("kernel", kernel, persistent=False)

    def forward(self, pred: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Compare contours.

        Args:
            pred: Image of N×C_B×H×W (translated first) or N×C_A×H×W.
            target: Likewise.
            weight: N×1×H×W, such as a mask; the mean is then weighted, as in mmagic's pixel losses.
        """
        difference = self.translation.to_domain_a(pred) - self.translation.to_domain_a(target)
        n, c, h, w = difference.shape
        with full_precision(difference):
            planes = F.pad(difference.reshape(n * c, 1, h, w), (1, 1, 1, 1), mode="replicate")
            contours = F.conv2d(planes, self.kernel.to(planes.dtype)).abs()
        contours = contours.view(n, 2 * c, h, w)
        return self.loss_weight * mask_reduce_loss(contours, weight, reduction="mean")
