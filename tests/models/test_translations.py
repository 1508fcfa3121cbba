"""Eq. 1 and the exact consistency, against NumPy written from their formulas."""

import numpy as np
import pytest
import torch
from mmagic.registry import MODELS

from spynco_mm.models import ExactConsistency, HandcraftedTranslation

RGB_WEIGHTS = {
    "bt601": [0.299, 0.587, 0.114],
    "bt709": [0.2126, 0.7152, 0.0722],
    "mean": [1 / 3, 1 / 3, 1 / 3],
}
RANDOM = {
    name: np.random.default_rng(len(name)).normal(size=s)
    for name, s in {"3 to 1": (1, 3), "8 to 3": (3, 8)}.items()
}


def images(channels, size=(5, 7), n=2, dtype=torch.float64, low=-1.0):
    generator = torch.Generator().manual_seed(channels)
    return torch.rand(n, channels, *size, generator=generator, dtype=dtype) * (1 - low) + low


# ------------------------------------------------------------------ HandcraftedTranslation


@pytest.mark.parametrize("name", RGB_WEIGHTS)
def test_equation_1(name):
    x = images(3)
    red, green, blue = x.numpy().transpose(1, 0, 2, 3)
    r, g, b = RGB_WEIGHTS[name]
    y = HandcraftedTranslation(name)(x).numpy()
    assert y.shape == (2, 1, 5, 7)
    # The numbers are held in float32.
    np.testing.assert_allclose(y[:, 0], r * red + g * green + b * blue, atol=1e-7)


def test_bt601_is_the_default():
    assert (
        HandcraftedTranslation().weight.tolist() == HandcraftedTranslation("bt601").weight.tolist()
    )


def test_exact_in_float32():
    x = images(3, size=(64, 64), dtype=torch.float32)
    exact = np.einsum("c,nchw->nhw", np.float64(np.float32(RGB_WEIGHTS["bt601"])), x.double())
    error = np.abs(HandcraftedTranslation()(x)[:, 0].numpy() - exact)
    assert error.max() <= 3 * np.finfo(np.float32).eps / 2  # one rounding per product and sum


@pytest.mark.parametrize("weights", [[0.5, -1.0, 2.0], [[0.5, -1.0, 2.0]], *RANDOM.values()])
def test_any_matrix(weights):
    matrix = np.atleast_2d(np.float32(weights))
    h_t = HandcraftedTranslation(np.asarray(weights).tolist())
    assert (h_t.out_channels, h_t.in_channels) == matrix.shape
    x = images(matrix.shape[1])
    expected = np.einsum("ac,nchw->nahw", np.float64(matrix), x.numpy())
    np.testing.assert_allclose(h_t(x).numpy(), expected, atol=1e-12)


def test_three_numbers_that_nothing_trains_or_saves():
    h_t = MODELS.build(dict(type="HandcraftedTranslation"))
    assert sum(b.numel() for b in h_t.buffers()) == 3
    assert not list(h_t.parameters()) and not h_t.state_dict()


def test_moves_with_to():
    h_t = HandcraftedTranslation()
    assert h_t.to("meta").weight.device.type == "meta"
    assert HandcraftedTranslation().to(torch.float64).weight.dtype == torch.float64


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_exact_under_autocast_and_for_half_precision(dtype):
    h_t, x = HandcraftedTranslation(), images(3, dtype=torch.float32)
    expected = h_t(x)
    with torch.autocast("cpu", dtype):
        assert torch.equal(h_t(x), expected)
        # What it must not do: 0.299 has no near value with 8 bits.
        assert not torch.equal(
            torch.nn.functional.conv2d(x, h_t.weight[:, :, None, None]), expected
        )
    half = x.to(dtype)
    assert h_t(half).dtype == torch.float32
    assert torch.equal(h_t(half), h_t(half.float()))


def test_gradient():
    h_t = HandcraftedTranslation(RANDOM["8 to 3"].tolist())
    x = images(8, size=(2, 2)).requires_grad_()
    assert torch.autograd.gradcheck(h_t, x)
    gradient = images(3, size=(2, 2))
    (found,) = torch.autograd.grad(h_t(x), x, gradient)
    matrix = np.float64(np.float32(RANDOM["8 to 3"]))
    np.testing.assert_allclose(found, np.einsum("ac,nahw->nchw", matrix, gradient), atol=1e-12)


def test_to_domain_a_leaves_images_of_a():
    h_t, gray, color = HandcraftedTranslation(), images(1), images(3)
    assert h_t.to_domain_a(gray) is gray
    assert torch.equal(h_t.to_domain_a(color), h_t(color))


@pytest.mark.parametrize(
    "weights, words",
    [
        ("rec601", "bt601, bt709, bt2020, mean, .*panchromatic, not 'rec601'"),
        ([[1, 2], [3]], "rows of equal length"),
        (["a", "b"], "numbers"),
        ([], "finite matrix"),
        ([1.0, float("nan")], "finite matrix"),
        ([[[1.0]]], r"got shape \(1, 1, 1\)"),
    ],
)
def test_impossible_weights(weights, words):
    with pytest.raises(ValueError, match=words):
        HandcraftedTranslation(weights)


@pytest.mark.parametrize("shape", [(2, 4, 8, 8), (3, 8, 8)])
def test_wrong_shape(shape):
    with pytest.raises(ValueError, match="takes N×3×H×W images, got " + "×".join(map(str, shape))):
        HandcraftedTranslation()(torch.zeros(shape))


# ------------------------------------------------------------------ ExactConsistency

TRANSLATIONS = {"bt601": "bt601", **{name: m.tolist() for name, m in RANDOM.items()}}


def consistency(weights="bt601", **kwargs):
    return ExactConsistency(dict(type="HandcraftedTranslation", weights=weights), **kwargs)


@pytest.mark.parametrize("weights", TRANSLATIONS.values(), ids=TRANSLATIONS)
@pytest.mark.parametrize("right_inverse", [None, "pinv"])
@pytest.mark.parametrize("mode", ["keep", "compress", "eval"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_translated_output_is_the_source(weights, right_inverse, mode, dtype):
    module = consistency(weights, right_inverse=right_inverse, out_of_range=mode).eval()
    h_t = module.translation
    output, source = images(h_t.in_channels, dtype=dtype), images(h_t.out_channels, dtype=dtype)
    result = module(output, source)
    # To float precision of the numbers that H_t adds up (and H_t⁺ is held in float32).
    atol = (
        4
        * torch.finfo(torch.float32).eps
        * float(h_t.weight.abs().sum(1).max() * result.abs().max())
    )
    assert atol < 1e-4
    torch.testing.assert_close(h_t(result), source, atol=atol, rtol=0)
    # Without it, they differ.
    assert (h_t(output) - source).abs().max() > 0.1


@pytest.mark.parametrize("weights", TRANSLATIONS.values(), ids=TRANSLATIONS)
def test_projection_against_numpy(weights):
    module = consistency(weights, out_of_range="keep")
    matrix = module.translation.weight.double().numpy()
    output, source = images(matrix.shape[1]), images(matrix.shape[0])
    if len(matrix) == 1:
        inverse = np.ones((matrix.shape[1], 1)) / matrix.sum()
    else:
        inverse = matrix.T @ np.linalg.inv(matrix @ matrix.T)
    residual = source.numpy() - np.einsum("ac,nchw->nahw", matrix, output)
    expected = output.numpy() + np.einsum("ca,nahw->nchw", inverse, residual)
    np.testing.assert_allclose(module(output, source), expected, atol=1e-6)


def test_gray_residual_goes_to_all_channels_alike():
    output, source = images(3), images(1)
    moved = consistency(out_of_range="keep")(output, source) - output
    torch.testing.assert_close(moved, moved[:, :1].expand_as(moved), atol=1e-7, rtol=0)


def test_projecting_twice_changes_nothing():
    module = consistency(out_of_range="keep")
    once = module(images(3), images(1))
    torch.testing.assert_close(module(once, images(1)), once, atol=1e-6, rtol=0)


def test_given_right_inverse():
    # All of the residual to green.
    module = consistency(right_inverse=[[0.0], [1 / 0.587], [0.0]], out_of_range="keep")
    output = images(3)
    result = module(output, images(1))
    assert torch.equal(result[:, [0, 2]], output[:, [0, 2]])
    torch.testing.assert_close(module.translation(result), images(1), atol=1e-6, rtol=0)


@pytest.mark.parametrize("weights", TRANSLATIONS.values(), ids=TRANSLATIONS)
def test_gradient_goes_through_the_null_space(weights):
    module = consistency(weights, out_of_range="keep")
    h = module.translation.weight.double().numpy()
    projector = np.eye(h.shape[1]) - module.right_inverse.double().numpy() @ h
    output = images(h.shape[1], size=(3, 3)).requires_grad_()
    gradient = images(h.shape[1], size=(3, 3), low=0.0)
    (found,) = torch.autograd.grad(
        module(output, images(h.shape[0], size=(3, 3))), output, gradient
    )
    np.testing.assert_allclose(found, np.einsum("oc,nohw->nchw", projector, gradient), atol=1e-12)
    # A projector, and nothing that H_t sees is left of it.
    np.testing.assert_allclose(projector @ projector, projector, atol=1e-6)
    np.testing.assert_allclose(h @ projector, 0, atol=1e-6)


# Not "uniform" for weights of both signs, where it holds almost everywhere only.
@pytest.mark.parametrize(
    "name, inverse", [("bt601", "uniform"), *((n, "pinv") for n in TRANSLATIONS)]
)
def test_all_directions_but_the_right_inverses_are_seen(name, inverse):
    module = consistency(TRANSLATIONS[name], right_inverse=inverse, out_of_range="keep")
    h = module.translation.weight.double()
    pixel = images(h.shape[1], size=(1, 1), n=1, low=-3.0)
    source = images(h.shape[0], size=(1, 1), n=1)
    jacobian = torch.autograd.functional.jacobian(
        lambda p: module(module.activate(p), source).flatten(), pixel
    ).view(h.shape[1], h.shape[1])
    values = torch.linalg.svdvals(jacobian)
    seen = h.shape[1] - h.shape[0]
    assert values[seen - 1] > 1e-3 and values[seen] < 1e-6
    unseen = jacobian @ module.right_inverse.double()
    torch.testing.assert_close(unseen, torch.zeros_like(unseen), atol=1e-6, rtol=0)


def test_weights_of_the_first_form_are_refused():
    module = torch.nn.ModuleDict(dict(consistency=consistency()))
    state = module.state_dict()
    module.load_state_dict(state)
    state._metadata["consistency"]["version"] = 1
    with pytest.raises(ValueError, match=r"not trained with today's .* its first form.* train it"):
        module.load_state_dict(state)
    del state._metadata["consistency"]  # of a plain generator, from which training may start
    module.load_state_dict(state)


def test_a_gray_image_may_come_replicated():
    output, source = images(3), images(1)
    module = consistency()
    torch.testing.assert_close(
        module(output, source.expand(-1, 3, -1, -1)), module(output, source), atol=1e-6, rtol=0
    )


@pytest.mark.parametrize("mode", ["keep", "compress", "eval"])
@pytest.mark.parametrize("training", [True, False])
def test_out_of_range(mode, training):
    module = consistency(out_of_range=mode).train(training)
    output, source = images(3, size=(32, 32)), images(1, size=(32, 32))
    result = module(output, source)
    free = consistency(out_of_range="keep")(output, source)
    assert free.abs().max() > 1.2, "the test needs pixels that leave the range"
    if mode == "compress" or (mode == "eval" and not training):
        assert result.abs().max() <= 1 + 1e-6
        inside = (free.abs() <= 1).all(1, keepdim=True).expand_as(free)
        torch.testing.assert_close(result[inside], free[inside], atol=1e-6, rtol=0)
        # By hand: the largest s in [0, 1] with I + s (O' - I) in range, pixel by pixel.
        chroma, gray = (free - source).numpy(), source.numpy()
        with np.errstate(divide="ignore"):
            limits = (np.sign(chroma) - gray) / chroma
        s = np.minimum(limits.min(1, keepdims=True), 1)
        np.testing.assert_allclose(result, gray + s * chroma, atol=1e-6)
    else:
        assert torch.equal(result, free)


def test_compression_of_black_white_and_colourless_pixels():
    module = consistency(out_of_range="compress")
    source = torch.tensor([-1.0, 1.0, 0.25]).view(1, 1, 1, 3)
    colours = torch.tensor([[0.5, -0.5, 0.2], [0.9, 0.1, 0.0], [0.3, 0.3, 0.3]])
    output = colours.T.reshape(1, 3, 1, 3)  # one colour per pixel
    result = module(output, source)
    assert torch.isfinite(result).all()
    torch.testing.assert_close(result, source.expand(-1, 3, -1, -1), atol=1e-6, rtol=0)


def test_consistency_has_nothing_to_train_or_save():
    module = MODELS.build(dict(type="ExactConsistency"))
    assert not list(module.parameters()) and not module.state_dict()


def test_consistency_is_exact_under_autocast():
    module, output, source = consistency(), images(3, dtype=torch.float32), images(1)
    with torch.autocast("cpu", torch.bfloat16):
        result = module(output.bfloat16(), source.float())
        assert result.dtype == torch.float32
        error = module.translation(result) - source.float()
    assert error.abs().max() < 1e-6


@pytest.mark.parametrize(
    "kwargs, words",
    [
        (dict(out_of_range="clip"), "out_of_range is 'eval', 'compress' or 'keep', not 'clip'"),
        (dict(right_inverse="transpose"), "right_inverse is 'uniform', 'pinv' or a matrix, not"),
        (dict(right_inverse=[[1.0], [1.0]]), "does not invert"),
        (dict(right_inverse=[[1.0], [1.0], [1.0]], weights=[1.0, 1.0, 1.0]), "does not invert"),
        (dict(weights=[1.0, -1.0, 0.0]), "non-zero sum"),
        (dict(weights=[[1.0, 0.0], [1.0, 0.0]]), "full row rank"),
        (dict(weights=RANDOM["8 to 3"].tolist(), right_inverse="uniform"), "one output channel"),
    ],
)
def test_impossible_consistency(kwargs, words):
    with pytest.raises(ValueError, match=words):
        consistency(**kwargs)
