"""The pyramid's weighted sum and the contours loss, against NumPy and SciPy."""

import numpy as np
import pytest
import torch
from mmagic.registry import MODELS
from scipy import ndimage

from spynco_mm.models import ContoursLoss, HandcraftedTranslation, OSPLoss


def images(seed, channels=3, n=2, size=(9, 11)):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, channels, *size, generator=generator, dtype=torch.float64) * 2 - 1


PYRAMID = [images(i) for i in range(3)]


class Counting(torch.nn.Module):
    """An L1 loss that knows how often it was asked."""

    calls = 0

    def forward(self, pred, target):
        self.calls += 1
        return (pred - target).abs().mean()


# ------------------------------------------------------------------ OSPLoss

L1 = lambda o, j: np.abs(o - j).mean()  # noqa: E731
INNER = {
    "L1Loss": (dict(type="L1Loss"), L1),
    "weighted L1Loss": (dict(type="L1Loss", loss_weight=0.25), lambda o, j: L1(o, j) / 4),
    "MSELoss": (dict(type="MSELoss"), lambda o, j: ((o - j) ** 2).mean()),
    "CharbonnierLoss": (
        dict(type="CharbonnierLoss", eps=1e-3),
        lambda o, j: np.sqrt((o - j) ** 2 + 1e-3).mean(),
    ),
    "PSNRLoss": (
        dict(type="PSNRLoss", loss_weight=1.0),
        lambda o, j: (10 / np.log(10) * np.log(((o - j) ** 2).mean((1, 2, 3)) + 1e-8)).mean(),
    ),
}


@pytest.mark.parametrize("weights", [(5, 3, 2), (10, 6, 4), (1, 0, 0.5)])
@pytest.mark.parametrize("name", INNER)
def test_weighted_sum_of_any_loss(name, weights):
    config, reference = INNER[name]
    target = images(9)
    loss = MODELS.build(dict(type="OSPLoss", loss=config, weights=weights))(PYRAMID, target)
    expected = sum(w * reference(o.numpy(), target.numpy()) for w, o in zip(weights, PYRAMID))
    np.testing.assert_allclose(loss, expected, rtol=1e-6)


@pytest.mark.parametrize("real, label", [(True, 1), (False, 0)])
def test_gan_loss(real, label):
    scores = [images(i, channels=1) for i in range(3)]
    loss = OSPLoss(dict(type="GANLoss", gan_type="lsgan"), (1, 2, 3))
    expected = sum(w * ((s.numpy() - label) ** 2).mean() for w, s in zip((1, 2, 3), scores))
    np.testing.assert_allclose(loss(scores, real), expected)
    # Keywords reach the inner loss: its weight counts for the generator only.
    heavy = OSPLoss(dict(type="GANLoss", gan_type="lsgan", loss_weight=7.0), (1, 2, 3))
    np.testing.assert_allclose(heavy(scores, real), 7 * expected)
    np.testing.assert_allclose(heavy(scores, real, is_disc=True), expected)


def test_keywords_reach_an_image_loss():
    mask = (images(5, channels=1) > 0).double()
    loss = OSPLoss(dict(type="L1Loss"), (1, 0.5, 0.25))(PYRAMID, images(9), weight=mask)
    where = np.broadcast_to(mask.numpy() > 0, PYRAMID[0].shape)
    differences = [np.abs(o - images(9)).numpy()[where].mean() for o in PYRAMID]
    np.testing.assert_allclose(loss, np.dot((1, 0.5, 0.25), differences))


class InParts(torch.nn.Module):
    """Three parts, one of them switched off, as mmagic's ``PerceptualLoss`` has two."""

    def forward(self, pred, target):
        return (pred - target).abs().mean(), None, (pred - target).square().mean()


def test_parts_of_a_loss_are_added_up():
    target = images(9)
    expected = sum(w * sum(p for p in InParts()(o, target) if p is not None)
                   for w, o in zip((5, 3, 2), PYRAMID))  # fmt: skip
    torch.testing.assert_close(OSPLoss(InParts(), (5, 3, 2))(PYRAMID, target), expected)


def test_terms_of_weight_zero_are_not_computed():
    for weights, calls in {(5, 3, 2): 3, (0, 1, 0): 1, (1, 0, 2): 2, (0, 0, 0): 0}.items():
        inner = Counting()
        loss = OSPLoss(inner, weights)
        assert torch.is_tensor(loss(PYRAMID, images(9)))
        assert inner.calls == calls
        assert loss.num_outputs == max([i + 1 for i in range(3) if weights[i]], default=0)


def test_outputs_of_weight_zero_may_be_left_out_at_the_end():
    target = images(9)
    loss = OSPLoss(dict(type="L1Loss"), (5, 0, 0))
    np.testing.assert_allclose(loss(PYRAMID[:1], target), 5 * L1(PYRAMID[0], target))
    np.testing.assert_allclose(loss(PYRAMID[0], target), 5 * L1(PYRAMID[0], target))


def test_gradient_reaches_every_output_with_its_weight():
    outputs = [o.clone().requires_grad_() for o in PYRAMID]
    OSPLoss(dict(type="L1Loss"), (5, 0, 2))(outputs, images(9)).backward()
    for output, weight in zip(outputs, (5, 0, 2)):
        sign = (output - images(9)).detach().sign()
        found = torch.zeros_like(output) if output.grad is None else output.grad
        torch.testing.assert_close(found, weight * sign / sign.numel())


@pytest.mark.parametrize("weights", [(), (1, -1)])
def test_impossible_weights(weights):
    with pytest.raises(ValueError, match="one non-negative weight for each output"):
        OSPLoss(dict(type="L1Loss"), weights)


@pytest.mark.parametrize("weights", [(1, 1), (1, 1, 1, 1)])
def test_wrong_number_of_weights(weights):
    with pytest.raises(ValueError, match="got a pyramid of 3 outputs; give one weight for each"):
        OSPLoss(dict(type="L1Loss"), weights)(PYRAMID, images(9))


def test_unknown_inner_loss_is_named():
    with pytest.raises(KeyError, match="NoSuchLoss"):
        OSPLoss(dict(type="NoSuchLoss"), (1,))


# ------------------------------------------------------------------ ContoursLoss


def sobel_l1(gray, other):
    """E[|S(gray) - S(other)|] of N×H×W, both directions, in SciPy."""
    planes = [
        np.abs(ndimage.sobel(a, axis, mode="nearest") - ndimage.sobel(b, axis, mode="nearest"))
        for a, b in zip(gray, other)
        for axis in (0, 1)
    ]
    return np.mean(planes)


def bt601(x):
    return np.einsum("c,nchw->nhw", np.float64(np.float32([0.299, 0.587, 0.114])), x)


def test_equation_9_against_scipy():
    output, gray = images(0), images(1, channels=1)
    loss = MODELS.build(dict(type="ContoursLoss"))(output, gray)
    np.testing.assert_allclose(loss, sobel_l1(bt601(output), gray.numpy()[:, 0]), rtol=1e-12)


def test_both_images_may_be_of_domain_b():
    a, b = images(0), images(1)
    np.testing.assert_allclose(ContoursLoss()(a, b), sobel_l1(bt601(a), bt601(b)), rtol=1e-12)


def test_other_translation_and_weight():
    output, gray = images(0), images(1, channels=1)
    loss = ContoursLoss(dict(type="HandcraftedTranslation", weights=[0.0, 1.0, 0.0]), 3.0)
    expected = 3 * sobel_l1(output.numpy()[:, 1], gray.numpy()[:, 0])
    np.testing.assert_allclose(loss(output, gray), expected, rtol=1e-12)


def test_more_channels_in_domain_a():
    matrix = np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32)
    output, source = images(0, channels=8), images(1, channels=3)
    planes = np.einsum("ac,nchw->nahw", np.float64(matrix), output)
    expected = sobel_l1(planes.reshape(6, 9, 11), source.numpy().reshape(6, 9, 11))
    loss = ContoursLoss(HandcraftedTranslation(matrix.tolist()))(output, source)
    np.testing.assert_allclose(loss, expected, rtol=1e-12)


def test_a_level_makes_no_contour():
    gray = images(1, channels=1)
    shifted = (gray + 0.25).expand(-1, 3, -1, -1)
    assert ContoursLoss()(shifted, gray) < 1e-7
    # A ramp has the same one everywhere, at the border half of it: Sobel weighs 8 per pixel.
    ramp = torch.arange(6.0).expand(1, 1, 5, 6)
    expected = (8 * 4 + 4 * 2) / 6 / 2
    np.testing.assert_allclose(ContoursLoss()(ramp, torch.zeros_like(ramp)), expected)


def test_mask_as_in_mmagics_losses():
    output, gray = images(0), images(1, channels=1)
    mask = (images(5, channels=1) > 0).double()
    difference = bt601(output) - gray.numpy()[:, 0]
    sobel = np.stack([[ndimage.sobel(d, a, mode="nearest") for a in (1, 0)] for d in difference])
    where = np.broadcast_to(mask.numpy() > 0, sobel.shape)
    loss = ContoursLoss()(output, gray, weight=mask)
    np.testing.assert_allclose(loss, np.abs(sobel)[where].mean(), rtol=1e-9)


def test_contours_gradient():
    output = images(0, n=1, size=(4, 5)).requires_grad_()
    assert torch.autograd.gradcheck(ContoursLoss(), (output, images(1, 1, 1, (4, 5))))


def test_contours_are_exact_under_autocast():
    output, gray = images(0).float(), images(1, channels=1).float()
    expected = ContoursLoss()(output, gray)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(ContoursLoss()(output, gray), expected)


def test_kernel_is_no_parameter_and_not_saved():
    loss = ContoursLoss()
    assert not list(loss.parameters()) and not loss.state_dict()


def test_same_channels_in_both_domains_are_refused():
    with pytest.raises(ValueError, match="cannot tell"):
        ContoursLoss(dict(type="HandcraftedTranslation", weights=[[0.3, 0.5, 0.2]] * 3))
