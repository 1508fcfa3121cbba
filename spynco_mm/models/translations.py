"""Handcrafted Translations: fixed, linear, differentiable maps from domain B to domain A.

Section 3.1 of Ratajczak et al. 2019, and the exact consistency that a known translation allows.
"""

from collections.abc import Sequence

import torch
from mmagic.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor

from .films import FILMS, film_weights

#: Grey weights of red, green and blue: the luma of ITU-R BT.601, BT.709 and BT.2020, and the mean.
GRAY_WEIGHTS = {
    "bt601": (0.299, 0.587, 0.114),
    "bt709": (0.2126, 0.7152, 0.0722),
    "bt2020": (0.2627, 0.6780, 0.0593),
    "mean": (1 / 3, 1 / 3, 1 / 3),
}

Matrix = Sequence[Sequence[float]]


def _full_precision(x: Tensor) -> Tensor:
    """Half-precision values as float32: the translation is exact only with 24-bit weights."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def _mix_channels(x: Tensor, matrix: Tensor) -> Tensor:
    """``matrix`` (C_out×C_in) applied to the channels of N×C_in×H×W.

    Neither autocast nor a GPU's TF32 rounds these products, as they would those of a convolution.
    """
    x = _full_precision(x)
    return (matrix.to(x.dtype)[:, :, None, None] * x[:, None]).sum(2)


@MODELS.register_module()
class HandcraftedTranslation(BaseModule):
    r"""The Handcrafted Translation H_t, a 1×1 convolution that is never trained (Eq. 1).

    .. math:: x_{gray} = 0.299\,x_R + 0.587\,x_G + 0.114\,x_B

    Its numbers are a buffer, so they move with ``.to()`` and no optimizer sees them; they are not
    part of a checkpoint, since the config defines them.

    Args:
        weights: A name: ``"bt601"``, the default, ``"bt709"``, ``"bt2020"``, ``"mean"``, or a film,
            as ``"orthochromatic"`` or ``"panchromatic+red"`` with a red filter (see
            :mod:`~spynco_mm.models.films`). Or the weights of the input channels (one output
            channel), or a matrix of shape C_A×C_B for a translation between any numbers of
            channels. Three equal rows give a grey image of three channels, as somebody else's
            networks may want it.
    """

    def __init__(self, weights: str | Sequence[float] | Matrix = "bt601"):
        super().__init__()
        if isinstance(weights, str):
            if weights.partition("+")[0] in FILMS:
                weights = film_weights(weights)
            elif weights in GRAY_WEIGHTS:
                weights = GRAY_WEIGHTS[weights]
            else:
                raise ValueError(
                    f"HandcraftedTranslation knows the weights {', '.join([*GRAY_WEIGHTS, *FILMS])}"
                    f", not '{weights}'; name one of them or give the numbers."
                )
        try:
            matrix = torch.as_tensor(weights, dtype=torch.float32)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"HandcraftedTranslation needs numbers in rows of equal length, got {weights!r}."
            ) from error
        matrix = matrix[None] if matrix.ndim == 1 else matrix
        if matrix.ndim != 2 or not matrix.numel() or not torch.isfinite(matrix).all():
            raise ValueError(
                "HandcraftedTranslation needs a finite matrix of shape (channels of A, channels of "
                f"B), got shape {tuple(matrix.shape)} with values {weights!r}."
            )
        self.register_buffer("weight", matrix.clone(), persistent=False)

    @property
    def out_channels(self) -> int:
        """Channels of domain A."""
        return self.weight.shape[0]

    @property
    def in_channels(self) -> int:
        """Channels of domain B."""
        return self.weight.shape[1]

    def forward(self, x: Tensor) -> Tensor:
        """Translate N×C_B×H×W images to N×C_A×H×W, in float32 at least, in the input's range."""
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            raise ValueError(
                f"HandcraftedTranslation takes N×{self.in_channels}×H×W images, got "
                f"{'×'.join(map(str, x.shape))}."
            )
        return _mix_channels(x, self.weight)

    def to_domain_a(self, x: Tensor) -> Tensor:
        """N×C_A×H×W images as they are, N×C_B×H×W images translated."""
        return x if x.shape[1] == self.out_channels else self(x)


@MODELS.register_module()
class ExactConsistency(BaseModule):
    r"""Project images onto those that H_t maps to a given image, so that A→B→A holds exactly.

    H_t is linear, known and has full row rank, so it has right inverses :math:`H_t^+` with
    :math:`H_t H_t^+ = 1`, and

    .. math:: O' = O + H_t^+ (I - H_t(O))

    gives :math:`H_t(O') = H_t(O) + I - H_t(O) = I` for any O: the losses of Eqs. 7 and 9 vanish by
    construction. Writing :math:`O' = H_t^+ I + (1 - H_t^+ H_t) O` shows what is left to learn: the
    part of O in the null space of H_t, which for a grey image is its chroma. The projection has no
    parameter, and the gradient reaches O through :math:`1 - H_t^+ H_t`, which is constant.

    **Before tanh.** Were O = tanh(p) of any pre-activation p, hardly a loss would see the part of p
    in the range of :math:`H_t^+`, which the projection removes wherever tanh is nearly linear.
    Nothing would hold it, so it would drift until tanh is saturated and lets no gradient through.
    Hence :meth:`activate` takes it out first:

    .. math:: O = \tanh(P p), \quad P = 1 - H_t^+ H_t

    For any full-rank :math:`H_t`, :math:`P H_t^+ = H_t^+ - H_t^+ (H_t H_t^+) = 0`: what is added to
    p in the range of :math:`H_t^+`, such as the same to all channels of a grey image, changes
    nothing, and so drives nothing into saturation. What is left, :math:`v = P p` in the null space
    of :math:`H_t`, is all seen: with :math:`D = \mathrm{diag}(\tanh'(v)) > 0` the output changes
    with v by P D, and P D v' = 0 for a v' of the null space means :math:`D v' = H_t^+ u` for some
    u, hence :math:`H_t D^{-1} H_t^+ u = H_t v' = 0`. For the pseudo-inverse
    :math:`H_t D^{-1} H_t^T` is positive definite, and for ``"uniform"`` with weights of one sign
    :math:`\sum_c w_c / D_c \ne 0`; so u = 0 and v' = 0.

    **Range.** O' can leave [-1, 1]. With ``out_of_range="compress"`` the chroma of such a pixel is
    scaled by the largest s in [0, 1] for which :math:`H_t^+ I + s (O' - H_t^+ I)` fits. That keeps
    :math:`H_t(O') = I` exactly, where clamping would not, and for grey images it always succeeds,
    since the grey pixel itself is in range. (Where a general :math:`H_t^+ I` is itself out of
    range, s = 0 and that value stays.) With ``"keep"`` the values stay as they are. The default
    ``"eval"`` keeps them in training, where the losses pull them back with their full gradient, and
    compresses them in evaluation, where they become pictures.

    Args:
        translation: Config or module of the linear :class:`HandcraftedTranslation`.
        right_inverse: ``"uniform"`` adds the residual in equal parts to all channels of B (needs
            one channel in A), ``"pinv"`` is the pseudo-inverse, or a C_B×C_A matrix. None means
            ``"uniform"`` where A has one channel, else ``"pinv"``.
        out_of_range: ``"eval"``, ``"compress"`` or ``"keep"``, as above.
    """

    #: In the metadata of every state dict. The first form had no :meth:`activate`; its weights have
    #: the same shapes, and would give other colours here.
    _version = 2

    def __init__(
        self,
        translation: dict | HandcraftedTranslation | None = None,
        right_inverse: str | Matrix | None = None,
        out_of_range: str = "eval",
    ):
        super().__init__()
        if out_of_range not in ("eval", "compress", "keep"):
            raise ValueError(
                f"ExactConsistency: out_of_range is 'eval', 'compress' or 'keep', not "
                f"'{out_of_range}'."
            )
        self.out_of_range = out_of_range
        translation = translation or dict(type="HandcraftedTranslation")
        self.translation = (
            MODELS.build(translation) if isinstance(translation, dict) else translation
        )
        self.register_buffer("right_inverse", self._right_inverse(right_inverse), persistent=False)

    def _right_inverse(self, choice: str | Matrix | None) -> Tensor:
        h = self.translation.weight.double()
        if choice is None:
            choice = "uniform" if len(h) == 1 else "pinv"
        if isinstance(choice, str) and choice == "uniform":
            inverse = torch.ones_like(h.T) / h.sum()
        elif isinstance(choice, str) and choice == "pinv":
            inverse = torch.linalg.pinv(h)
        elif isinstance(choice, str):
            raise ValueError(
                f"ExactConsistency: right_inverse is 'uniform', 'pinv' or a matrix, not '{choice}'."
            )
        else:
            inverse = torch.as_tensor(choice, dtype=torch.float64)
        if inverse.shape != h.T.shape or not torch.allclose(
            h @ inverse, torch.eye(len(h), dtype=h.dtype, device=h.device), atol=1e-5
        ):
            raise ValueError(
                f"ExactConsistency: right_inverse={choice!r} does not invert the translation of "
                f"shape {tuple(h.shape)} from the right; H_t needs full row rank, and 'uniform' "
                "needs one output channel with a non-zero sum of weights."
            )
        return inverse.float()

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, *args) -> None:
        # Weights from a generator without consistency have no version here and may be started from.
        if "version" in local_metadata:
            self.check_version(local_metadata["version"])
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args)

    @classmethod
    def check_version(cls, version: int | None) -> None:
        """Refuse weights that were trained with another form.

        Args:
            version: From the metadata of the checkpoint's state dict; None if it has none.

        Raises:
            ValueError: It is not today's.
        """
        if version != cls._version:
            raise ValueError(
                "this checkpoint's generator was not trained with today's ExactConsistency but "
                f"with {'its first form' if version == 1 else 'another or none'}, and would give "
                "other colours than it learnt; train it again, or use the version of spynco_mm "
                "that made it."
            )

    def activate(self, x: Tensor) -> Tensor:
        """tanh of what H_t does not see of a pre-activation.

        Args:
            x: N×C_B×H×W, any range.

        Returns:
            N×C_B×H×W in [-1, 1], in float32 at least, to be projected by :meth:`forward`.
        """
        return torch.tanh(self.null(x))

    def null(self, x: Tensor) -> Tensor:
        """P x, what H_t does not see of N×C_B×H×W: the chroma, where A is grey."""
        x = _full_precision(x)
        return x - _mix_channels(self.translation(x), self.right_inverse)

    def forward(self, output: Tensor, source: Tensor) -> Tensor:
        """Project an output onto the images that H_t maps to the source.

        Args:
            output: N×C_B×H×W, any range.
            source: The image I in domain A (N×C_A×H×W), or an image of N×C_B×H×W whose H_t is I, as
                a grey image replicated over the channels of B.

        Returns:
            N×C_B×H×W, in float32 at least.
        """
        source = _full_precision(self.translation.to_domain_a(source))
        output = _full_precision(output)
        output = output + _mix_channels(source - self.translation(output), self.right_inverse)
        if self.out_of_range == "compress" or (self.out_of_range == "eval" and not self.training):
            output = self._compress(output, _mix_channels(source, self.right_inverse))
        return output

    @staticmethod
    def _compress(output: Tensor, base: Tensor) -> Tensor:
        """Shorten output − base per pixel, never turning it, until the sum is in [-1, 1]."""
        chroma = output - base
        # Room towards the bound that each channel is heading for; a channel at rest has all of it.
        room = torch.where(chroma > 0, 1 - base, 1 + base).clamp_min(0)
        scale = (room / chroma.abs().clamp_min(torch.finfo(chroma.dtype).tiny)).amin(
            1, keepdim=True
        )
        return base + scale.clamp(max=1) * chroma
