"""The generator against NumPy (Eqs. 2 and 3), its arguments, and its fast path."""

import copy

import numpy as np
import numpy_networks
import pytest
import torch
import torch.nn.functional as F
from mmagic.registry import MODELS
from small_models import resting
from torch import nn

from spynco_mm.models import HandcraftedTranslation, SpyncoGenerator
from spynco_mm.models.ops import samples
from spynco_mm.models.ops import winograd as winograd_op

SMALL = dict(base_channels=4, num_blocks=2)


def images(n=2, channels=3, size=(16, 24), dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, channels, *size, generator=generator, dtype=dtype) * 2 - 1


def build(seed=0, **kwargs):
    """A small generator whose outputs are far from both 0 and ±1."""
    torch.manual_seed(seed)
    network = MODELS.build({"type": "SpyncoGenerator", **SMALL, **kwargs}).double()
    for parameter in network.parameters():
        nn.init.normal_(parameter, 0, 0.3)
    return network


# ------------------------------------------------------------------ parameters


def test_published_number_of_parameters():
    network = SpyncoGenerator()
    assert sum(p.numel() for p in network.parameters()) == 4_977_923
    assert sum(p.numel() for p in network.state_dict().values()) == 4_977_923
    assert all(p.requires_grad for p in network.parameters())


def test_number_of_parameters_layer_by_layer():
    def conv(a, b, high, wide):
        return a * b * high * wide + b

    expected = [conv(3, 64, 9, 9)]
    expected += [conv(a, b, 5, 1) + conv(b, b, 1, 5) for a, b in ((64, 128), (128, 256))]
    expected += [conv(256, 256, 3, 3)] * 6
    expected += [conv(256, 256, 3, 1) + conv(256, 256, 1, 3)] * 2
    expected += [conv(256, 3, 5, 5)]
    network = SpyncoGenerator()
    layers = [*network.encoder, *network.residual, *network.decoder, network.mapping]
    assert [sum(p.numel() for p in layer.parameters()) for layer in layers] == expected
    assert sum(expected) == 4_977_923


@pytest.mark.parametrize("num_outputs", [1, 2, 3])
def test_outputs_and_consistency_have_no_parameters(num_outputs):
    network = SpyncoGenerator(num_outputs=num_outputs, consistency=dict(type="ExactConsistency"))
    assert sum(p.numel() for p in network.state_dict().values()) == 4_977_923


# ------------------------------------------------------------------ Eqs. 2 and 3


@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        dict(num_down=1, num_outputs=2),
        dict(num_down=3, num_outputs=4, num_blocks=1, base_channels=2),
        dict(num_down=0, num_outputs=1),
        dict(num_blocks=0),
        dict(base_channels=3, in_channels=1, out_channels=2),
        dict(stem_kernel=5, down_kernel=3, residual_kernel=5, up_kernel=5, mapping_kernel=3),
        dict(stem_kernel=1, down_kernel=7, residual_kernel=1, up_kernel=1, mapping_kernel=1),
        dict(padding_mode="reflect"),
        dict(padding_mode="replicate", upsample_mode="bilinear"),
        dict(upsample_mode="bilinear"),
        dict(norm_cfg=None),
    ],
    ids=str,
)
@pytest.mark.parametrize("fast", [True, False])
def test_pyramid_against_numpy(kwargs, fast):
    network = build(fast=fast, **kwargs)
    size = (32, 40) if kwargs.get("num_down") == 3 else (16, 24)
    x = images(channels=network.in_channels, size=size)
    settings = dict(num_down=2, num_blocks=2, num_outputs=3)
    settings.update({k: v for k, v in kwargs.items() if k in settings or k.endswith("_mode")})
    if "norm_cfg" in kwargs:
        settings["norm"] = lambda features: features
    expected = numpy_networks.generator(network, x.numpy(), **settings)
    outputs = network(x)
    assert isinstance(outputs, list) and len(outputs) == settings["num_outputs"]
    for output, y in zip(outputs, expected):
        np.testing.assert_allclose(output.detach(), y, atol=1e-10)
        assert output.shape == (2, kwargs.get("out_channels", 3), *size)


def test_norm_of_choice():
    network = build(norm_cfg=dict(type="BN"))
    assert sum(isinstance(m, nn.BatchNorm2d) for m in network.modules()) == 1 + 2 + 2 + 2
    before = network.encoder[0].norm.running_mean.clone()
    network(images())
    assert not torch.equal(network.encoder[0].norm.running_mean, before)


def test_each_image_by_itself():
    network, x = build(), images(n=3)
    together = [torch.cat(parts) for parts in zip(*(network(image[None]) for image in x))]
    for output, expected in zip(network(x), together):
        torch.testing.assert_close(output, expected, atol=1e-12, rtol=0)


# ------------------------------------------------------------------ only what is asked for


class Calls:
    """Counts the calls of a module."""

    def __init__(self, module):
        self.times = []
        module.register_forward_hook(lambda module, args, output: self.times.append(args[1:]))


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("asked", [1, 2, 3])
def test_other_outputs_cost_nothing(fast, asked):
    network, x = build(fast=fast), images()
    full = network(x)
    calls = Calls(network.mapping)
    some = network(x, num_outputs=asked)
    assert [times for times, *_ in calls.times] == list(range(asked))
    assert len(some) == asked
    assert all(torch.equal(a, b) for a, b in zip(some, full))


def test_one_tensor_for_mmagics_models():
    network, x = build(return_pyramid=False), images()
    calls = Calls(network.mapping)
    output = network(x)
    assert torch.is_tensor(output) and len(calls.times) == 1
    pyramid = network(x, num_outputs=3)
    assert len(pyramid) == 3 and torch.equal(pyramid[0], output)


@pytest.mark.parametrize("asked", [0, 3])
def test_outputs_it_does_not_have(asked):
    with pytest.raises(ValueError, match=f"has 2 outputs, so it cannot give {asked}"):
        build(num_outputs=2)(images(), num_outputs=asked)


# ------------------------------------------------------------------ fast and naive


@pytest.fixture
def winograd(monkeypatch):
    """The fast residual blocks at any size."""
    monkeypatch.setattr(winograd_op, "MIN_TILES", 0)


def value_and_gradients(network, x):
    """Outputs, losses and the gradients of everything, for fixed random targets and H_t."""
    x = x.clone().requires_grad_()
    outputs = network(x)
    h_t = HandcraftedTranslation().double()
    losses = [
        (i + 1) * (F.l1_loss(o, images(len(x), 3, o.shape[2:], seed=9)) + h_t(o).square().mean())
        for i, o in enumerate(outputs)
    ]
    gradients = torch.autograd.grad(sum(losses), [x, *network.parameters()])
    return [*outputs, *losses, *gradients]


@pytest.mark.parametrize("n", [1, 2, 3, 4])
@pytest.mark.parametrize(
    "kwargs, size",
    [
        (dict(base_channels=2), (32, 40)),
        (dict(base_channels=5, mapping_kernel=3, up_kernel=5), (40, 32)),
        (dict(base_channels=1, mapping_kernel=7, up_kernel=1, num_blocks=1), (48, 32)),
        (dict(base_channels=2, mapping_kernel=1, up_kernel=7), (32, 32)),
        (dict(base_channels=2, consistency=dict(type="ExactConsistency")), (32, 40)),
        (dict(base_channels=2, norm_cfg=None), (32, 40)),
    ],
    ids=str,
)
def test_fast_equals_naive(winograd, kwargs, size, n):
    kwargs = {"num_blocks": 1, **kwargs, "num_down": 3, "num_outputs": n}
    x = images(size=size)
    fast, naive = (value_and_gradients(build(fast=f, **kwargs), x) for f in (True, False))
    for a, b in zip(fast, naive):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=1e-10)


def test_a_pyramid_is_no_image():
    with pytest.raises(ValueError, match=r"got a list; .* return_pyramid=False"):
        build(num_blocks=1)(build(num_blocks=1)(images()))


def test_programs_of_any_batch():
    """What is recorded does not take a few samples at a time, and has the readable operations."""
    network = build(base_channels=2, num_blocks=1, return_pyramid=False).float()
    x = images(n=4, size=(64, 96)).float()
    dynamic = dict(x={0: torch.export.Dim("batch")})
    program = torch.export.export(network, (x,), dynamic_shapes=dynamic).module()
    with torch.no_grad():
        traced = torch.jit.trace(network, x, check_trace=False)
    assert "upsample_nearest" in str(traced.inlined_graph)
    assert "col2im" not in str(traced.inlined_graph)
    for batch in (x, x[:3]):
        for output in (program(batch), traced(batch)):
            torch.testing.assert_close(output, network(batch), atol=1e-4, rtol=0)


@pytest.mark.parametrize("norm", ["IN", "BN", "GN"])
@pytest.mark.parametrize("num_down", [0, 1, 2])
def test_fast_equals_naive_for_a_few_samples_at_a_time(monkeypatch, norm, num_down):
    positions = 2 * 16 * 24 // (4 if num_down else 1)
    monkeypatch.setattr(samples, "POSITIONS", positions)
    norm_cfg = dict(type=norm, **(dict(num_groups=2) if norm == "GN" else {}))
    kwargs = dict(norm_cfg=norm_cfg, num_blocks=1, num_down=num_down, num_outputs=num_down + 1)
    networks = [build(fast=f, **kwargs) for f in (True, False)]
    seen = []

    def see(module, arguments, result):
        if arguments[1] == 0:
            seen.append(len(result))

    networks[0].mapping.register_forward_hook(see)
    fast, naive = (value_and_gradients(network, images(5)) for network in networks)
    for a, b in zip(fast, naive):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=1e-10)
    # Batch norm mixes the samples, so they stay together.
    assert seen == ([5] if norm == "BN" and num_down else [2, 2, 1])


@pytest.mark.parametrize("size", [(17, 16), (23, 31), (18, 33)])
def test_fast_equals_naive_for_odd_sizes_in_evaluation(winograd, size):
    fast, naive = (value_and_gradients(build(fast=f).eval(), images(size=size)) for f in (1, 0))
    for a, b in zip(fast, naive):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=1e-10)


def test_compiled_as_one_graph_equals_naive(winograd):
    compiled, naive = (build(fast=f, num_blocks=1) for f in (True, False))
    # Differentiated and taken apart as for every backend, and then run operation by operation.
    compiled.compile(backend="aot_eager", fullgraph=True)
    for a, b in zip(*(value_and_gradients(network, images(3)) for network in (compiled, naive))):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=1e-10)


def train(network, steps=50, pool=8):
    """Adam on a fixed set of images; the losses along the way."""
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3, betas=(0.5, 0.999))
    x = images(pool, dtype=torch.float32)
    target = images(pool, dtype=torch.float32, seed=1)
    losses = []
    for step in range(steps):
        batch = slice(2 * step % pool, 2 * step % pool + 2)
        loss = sum(F.mse_loss(o, target[batch]) for o in network(x[batch]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_training_in_float32_drifts_no_more_than_by_rounding(winograd):
    """Training amplifies the last bit; the yardstick is the naive path with another last bit."""
    start = build(fast=False, num_blocks=1).float()

    def weights(fast, mkldnn=True, nudge=0.0):
        network = build(fast=fast, num_blocks=1).float()
        network.load_state_dict(start.state_dict())
        with torch.no_grad():
            network.mapping.weight.mul_(1 + nudge)
        with torch.backends.mkldnn.flags(enabled=mkldnn):
            losses = train(network)
        assert losses[-1] < 0.9 * losses[0], "it must learn something"
        return nn.utils.parameters_to_vector(network.parameters()).detach()

    naive = weights(False)
    assert torch.equal(weights(False), naive)
    others = [weights(False, mkldnn=False), weights(False, nudge=1e-7)]
    rounding = max((other - naive).norm() for other in others)
    drift = (weights(True) - naive).norm()
    assert 0 < drift < 2 * rounding
    # Far less than what training moved.
    assert drift < 0.2 * (naive - nn.utils.parameters_to_vector(start.parameters())).norm()


# ------------------------------------------------------------------ biases before instance norm


@pytest.mark.parametrize("fast", [True, False])
def test_biases_before_instance_norm_stay_where_they_are(fast):
    network = build(fast=fast).float()
    start = {name: p.detach().clone() for name, p in network.named_parameters()}
    train(network, steps=3)
    still = {name for name, p in network.named_parameters() if torch.equal(p, start[name])}
    assert still == resting(network) and len(still) == 1 + 2 + 2 + 2


def test_that_they_have_no_effect():
    network, x = build(), images()
    moved = copy.deepcopy(network)
    with torch.no_grad():
        for name in resting(network):
            moved.get_parameter(name).add_(3.0)
    for a, b in zip(network(x), moved(x)):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=0)


# ------------------------------------------------------------------ exact consistency


@pytest.mark.parametrize("size", [(16, 24), (19, 30)])
def test_consistency_projects_every_output(size):
    consistency = dict(type="ExactConsistency")
    network, plain = build(consistency=consistency).eval(), build().eval()
    h_t = HandcraftedTranslation().double()
    gray = images(channels=1, size=size)
    outputs = network(gray.expand(-1, 3, -1, -1))
    for output, free in zip(outputs, plain(gray.expand(-1, 3, -1, -1))):
        torch.testing.assert_close(h_t(output), gray, atol=1e-6, rtol=0)
        assert output.abs().max() <= 1 + 1e-6
        assert (output - free).abs().max() > 0.1


def test_consistency_of_other_domains():
    matrix = np.random.default_rng(0).normal(size=(3, 8)).tolist()
    h_t = dict(type="HandcraftedTranslation", weights=matrix)
    consistency = dict(type="ExactConsistency", translation=h_t)
    network = build(in_channels=3, out_channels=8, consistency=consistency)
    source = images()
    for output in network(source):
        translated = MODELS.build(h_t)(output)
        torch.testing.assert_close(translated, source, atol=1e-5, rtol=0)


def test_no_output_sees_what_the_projection_removes():
    """The mapping's bias along H_t's right inverse, which the first form let drift."""
    for matrix in ([[0.299, 0.587, 0.114]], np.random.default_rng(0).normal(size=(3, 8)).tolist()):
        h_t = dict(type="HandcraftedTranslation", weights=matrix)
        consistency = dict(type="ExactConsistency", translation=h_t)
        network = build(out_channels=len(matrix[0]), consistency=consistency)
        with torch.no_grad():
            before = network(images())
            network.mapping.bias += 30 * network.consistency.right_inverse.sum(1)
            after = network(images())
            network.consistency.activate = torch.tanh  # as it was in the first form
            saturated = network(images())
        for a, b, c in zip(before, after, saturated):
            torch.testing.assert_close(b, a, atol=1e-4, rtol=0)
            assert (c - a).abs().max() > 0.1


def saturated_after_training(activate=None, steps=500):
    """The part of the activations beyond 0.99 after training on warm pictures, at ten times lr."""
    torch.manual_seed(0)
    size = dict(base_channels=16, num_blocks=0, num_down=0, num_outputs=1)
    network = SpyncoGenerator(**size, consistency=dict(type="ExactConsistency"))
    network.init_weights()
    network.consistency.activate = activate or network.consistency.activate
    chroma = F.interpolate(torch.randn(32, 3, 2, 2) / 4, (16, 16), mode="bilinear")
    chroma += torch.tensor([0.4, 0.0, -0.4])[:, None, None]
    luma = F.interpolate(torch.rand(32, 1, 4, 4) * 1.2 - 0.6, (16, 16), mode="bilinear")
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3, betas=(0.5, 0.999))
    h_t = network.consistency.translation
    activations = []
    network.mapping.register_forward_hook(lambda *args: activations.append(args[2].detach()))
    for step in range(steps):
        real = (luma + chroma).clamp(-1, 1).split(2)[step % 16]
        (output,) = network(h_t(real).expand(-1, 3, -1, -1))  # Eq. 6
        optimizer.zero_grad()
        (10 * (output - real).abs().mean()).backward()
        optimizer.step()
    last = network.consistency.activate(torch.cat(activations[-16:]))
    return (last.abs() > 0.99).double().mean().item()


def test_consistency_does_not_saturate():
    def first_form(x):
        return torch.tanh(x)

    assert saturated_after_training(first_form) > 0.1
    assert saturated_after_training() <= 0.01


# ------------------------------------------------------------------ sizes and errors


@pytest.mark.parametrize("size", [(17, 16), (23, 31), (16, 18)])
@pytest.mark.parametrize("num_down", [1, 2])
def test_any_size_in_evaluation(size, num_down):
    network = build(num_down=num_down, num_outputs=2).eval()
    x = images(size=size)
    padding = [(0, 0), (0, 0), *((0, -s % 2**num_down) for s in size)]
    padded = torch.from_numpy(np.pad(x.numpy(), padding, "reflect"))
    for output, whole in zip(network(x), network(padded)):
        assert torch.equal(output, whole[..., : size[0], : size[1]])


@pytest.mark.parametrize("kwargs, minimum", [({}, 16), (dict(num_down=1, num_outputs=1), 8)])
def test_too_small(kwargs, minimum):
    network = build(**kwargs)
    network(images(size=(minimum, minimum)))
    with pytest.raises(ValueError, match=f"at least {minimum}×{minimum} pixels, got {minimum}×"):
        network.eval()(images(size=(minimum, minimum - 1)))


@pytest.mark.parametrize(
    "kwargs, minimum",
    [
        (dict(residual_kernel=11), 24),
        (dict(stem_kernel=41), 21),
        (dict(down_kernel=21), 22),
        (dict(up_kernel=25), 26),
        (dict(mapping_kernel=35), 18),
        (dict(num_down=0, num_outputs=1, stem_kernel=9), 5),
    ],
    ids=str,
)
def test_smallest_image_for_mirrored_borders(kwargs, minimum):
    """A border cannot mirror more than there is, which torch would say deep inside."""
    network = build(padding_mode="reflect", base_channels=1, num_blocks=1, **kwargs).eval()
    network(images(n=1, size=(minimum, minimum)))
    with pytest.raises(ValueError, match=f"at least {minimum}×{minimum} pixels"):
        network(images(n=1, size=(minimum - 1, minimum)))


def test_training_needs_multiples_of_the_stride():
    with pytest.raises(ValueError, match="multiples of 4, got 18×16; crop or resize"):
        build()(images(size=(18, 16)))


@pytest.mark.parametrize("shape", [(2, 1, 16, 16), (3, 16, 16)])
def test_wrong_channels(shape):
    words = f"takes N×3×H×W images, got {'×'.join(map(str, shape))}; a grey image is replicated"
    with pytest.raises(ValueError, match=words):
        build()(torch.zeros(shape).double())


@pytest.mark.parametrize(
    "kwargs, words",
    [
        (dict(stem_kernel=8), "stem_kernel must be odd and positive, got 8"),
        (dict(down_kernel=0), "down_kernel must be odd"),
        (dict(residual_kernel=-1), "residual_kernel must be odd"),
        (dict(up_kernel=2), "up_kernel must be odd"),
        (dict(mapping_kernel=4), "mapping_kernel must be odd"),
        (
            dict(base_channels=-3),
            "base_channels must be whole and at least 1, got -3",
        ),
        (dict(num_blocks=1.5), "num_blocks must be whole and at least 0, got 1.5"),
        (dict(num_outputs=4), r"between 1 and num_down \+ 1 = 3, got 4"),
        (dict(num_outputs=0), "num_outputs must be between 1"),
        (dict(upsample_mode="cubic"), "'nearest' or 'bilinear', not 'cubic'"),
        (dict(padding_mode="wrap"), "padding_mode .*'wrap'"),
    ],
    ids=str,
)
def test_impossible_arguments(kwargs, words):
    with pytest.raises(ValueError, match=words):
        SpyncoGenerator(**kwargs)


@pytest.mark.parametrize("key, name", [("norm_cfg", "NoNorm"), ("consistency", "NoConsistency")])
def test_unknown_parts_are_named(key, name):
    with pytest.raises(KeyError, match=name):
        SpyncoGenerator(**{**SMALL, key: dict(type=name)})
