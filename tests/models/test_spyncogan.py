"""The training step against Eqs. 4 to 9 in NumPy, and what a config can switch."""

import copy

import numpy as np
import pytest
import torch
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from scipy import ndimage
from simulated_gpu import simulated_gpu
from small_models import (
    ALPHA,
    BETA,
    GAMMA,
    ZETA,
    assert_trains,
    batch,
    build,
    config,
    images,
    optimizers,
    osp,
    resting,
    weights,
)

from spynco_mm.models import ContoursLoss

LOSSES = {
    "identity_loss": "loss_identity",
    "cycle_bab_loss": "loss_cycle_bab",
    "cycle_aba_loss": "loss_cycle_aba",
    "gan_loss": "loss_gan_g",
    "contours_loss": "loss_contours",
}


# ------------------------------------------------------------------ the equations


def l1(a, b):
    return np.abs(a - b).mean()


def h_t(x, matrix=((0.299, 0.587, 0.114),)):
    """Eq. 1."""
    return np.einsum("ac,nchw->nahw", np.float64(np.float32(matrix)), x)


def sobel(x):
    """S_k of N×C×H×W: both directions of every plane."""
    return np.stack(
        [[ndimage.sobel(p, a, mode="nearest") for p in image for a in (0, 1)] for image in x]
    )


def total(weights, terms):
    return sum(w * t for w, t in zip(weights, terms))


def paper_losses(model, gray, color, matrix=((0.299, 0.587, 0.114),)):
    """Eqs. 4, 6, 7, 8 and 9 from what G and D answer, one image at a time."""

    def g(x):
        """[G_1(x), ..., G_N(x)] as arrays."""
        parts = [model.generator(torch.from_numpy(image[None])) for image in x]
        return [np.concatenate([o.detach().numpy() for o in outputs]) for outputs in zip(*parts)]

    def d(x):
        return np.stack([model.discriminator(torch.from_numpy(i[None])).detach()[0] for i in x])

    i, j = gray.numpy(), color.numpy()
    replicate = 3 if i.shape[1] == 1 else 1
    of_hj, of_i = (g(np.repeat(x, replicate, 1)) for x in (h_t(j, matrix), i))
    losses = {
        "loss_cycle_bab": total(BETA, [l1(o, j) for o in of_hj]),  # Eq. 6
        "loss_cycle_aba": total(BETA, [l1(h_t(o, matrix), i) for o in of_i]),  # Eq. 7
        "loss_gan_g": total(GAMMA, [((d(o) - 1) ** 2).mean() for o in of_i]),  # Eq. 8
        "loss_contours": total(ZETA, [l1(sobel(h_t(o, matrix)), sobel(i)) for o in of_i]),  # Eq. 9
    }
    if model.identity_loss is not None:
        losses["loss_identity"] = total(ALPHA, [l1(o, j) for o in g(j)])  # Eq. 4
    fakes = [(d(o) ** 2).mean() for o in of_i]
    adversary = {
        "loss_gan_d_real": ((d(j) - 1) ** 2).mean() / 2,
        "loss_gan_d_fake": total(GAMMA, fakes) / sum(GAMMA) / 2,
    }
    return losses, adversary


def assert_losses(found, expected):
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name].detach(), value, rtol=1e-9, err_msg=name)


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("gamma", [(1, 1, 1), (2, 0.5, 0.25)])
def test_equations_4_to_9(n, gamma, monkeypatch):
    monkeypatch.setattr("test_spyncogan.GAMMA", gamma)
    model = build(gan_loss=osp(gamma, type="GANLoss", gan_type="lsgan")).double()
    gray, color = images(n, 1, seed=1), images(n, seed=2)
    losses, fakes = model.generator_losses(gray, color)
    expected, expected_d = paper_losses(model, gray, color)
    assert_losses(losses, expected)
    # The total is the raw sum.
    np.testing.assert_allclose(
        model.parse_losses(losses)[0].detach(), sum(expected.values()), rtol=1e-9
    )
    assert len(fakes) == 3 and not any(fake.requires_grad for fake in fakes)
    plans = model.plan_pools(color)
    assert_losses(model.discriminator_losses(fakes, color, plans), expected_d)


def test_other_domains():
    """H_t from 8 to 3 channels; there is no identity between different numbers of channels."""
    matrix = np.random.default_rng(0).normal(size=(3, 8)).tolist()
    model = build(
        data_preprocessor=dict(type="DataPreprocessor"),
        generator=dict(type="SpyncoGenerator", out_channels=8, base_channels=3, num_blocks=1),
        discriminator=dict(type="SpyncoDiscriminator", in_channels=8, channels=(4, 6, 8, 10)),
        handcrafted_translation=dict(type="HandcraftedTranslation", weights=matrix),
        identity_loss=None,
    )
    inputs = batch(channels=8)
    assert_trains(model, lambda i: model.train_step(inputs, optimizers(model)), 2, resting(model))
    (sample, _) = model.val_step(batch(channels=8))
    assert sample.fake_color.shape == (8, 24, 28)
    model.double()
    a, b = images(seed=1), images(channels=8, seed=2)
    losses, fakes = model.generator_losses(a, b)
    expected, expected_d = paper_losses(model, a, b, matrix)
    assert_losses(losses, expected)
    assert_losses(model.discriminator_losses(fakes, b, model.plan_pools(b)), expected_d)


def test_contours_use_the_translation_of_the_model():
    bt709 = dict(type="HandcraftedTranslation", weights="bt709")
    contours = osp(ZETA, type=ContoursLoss)  # as in mmengine's new style of configs
    model = build(handcrafted_translation=bt709, contours_loss=contours).double()
    gray, color = images(2, 1, seed=1), images(seed=2)
    losses, _ = model.generator_losses(gray, color)
    assert_losses(losses, paper_losses(model, gray, color, [(0.2126, 0.7152, 0.0722)])[0])
    # Unless it names its own.
    own = osp(ZETA, type="ContoursLoss", translation=dict(type="HandcraftedTranslation"))
    model = build(handcrafted_translation=bt709, contours_loss=own)
    assert model.contours_loss.loss.translation.weight[0, 0].item() == pytest.approx(0.299)


def test_exact_consistency_leaves_nothing_to_two_losses():
    generator = {**config()["generator"], "consistency": dict(type="ExactConsistency")}
    model = build(generator=generator).double()
    losses, _ = model.generator_losses(images(2, 1, seed=1), images(seed=2))
    assert losses["loss_cycle_aba"] < 1e-5 and losses["loss_contours"] < 1e-5
    assert losses["loss_identity"] > 0.1 and losses["loss_cycle_bab"] > 0.1


# ------------------------------------------------------------------ one step


def test_a_step_is_one_of_g_and_one_of_d():
    """G against the old D, D on what the old G made: gradients from the equations by themselves."""
    model = build().double()
    old = copy.deepcopy(model)
    data = batch()
    log = model.train_step(data, optimizers(model, lr=1.0))

    inputs = old.data_preprocessor(batch(), True)["inputs"]
    gray = old.handcrafted_translation(inputs["img_gray"].double())
    color = inputs["img_color"].double()
    losses, adversary = paper_losses(old, gray, color)
    assert log["loss_g"].item() == pytest.approx(sum(losses.values()), rel=1e-5)
    assert log["loss_d"].item() == pytest.approx(sum(adversary.values()), rel=1e-5)
    assert set(log) == {*losses, *adversary, "loss_g", "loss_d"}
    assert not any(value.requires_grad for value in log.values())

    loss_g, _ = old.parse_losses(old.generator_losses(gray, color)[0])
    fakes = [o.detach() for o in old.generator(gray.expand(-1, 3, -1, -1))]
    d = old.discriminator
    loss_d = ((d(color) - 1) ** 2).mean() / 2 + sum((d(f) ** 2).mean() for f in fakes) / 6
    for name, loss in (("generator", loss_g), ("discriminator", loss_d)):
        parameters = dict(getattr(old, name).named_parameters())
        gradients = torch.autograd.grad(loss, list(parameters.values()))
        for (key, start), gradient in zip(parameters.items(), gradients):
            found = start.detach() - getattr(model, name).get_parameter(key).detach()
            torch.testing.assert_close(found, gradient, rtol=1e-4, atol=1e-6, msg=f"{name}.{key}")
    assert all(p.requires_grad for p in model.parameters())


def test_training_from_the_data_loader():
    model = build(buffer_size=4)
    wrappers = optimizers(model)
    step = lambda i: model.train_step(batch(seed=i), wrappers)  # noqa: E731
    assert_trains(model, step, steps=3, still=resting(model))
    assert [buffer.img_num for buffer in model.image_buffers] == [4, 4, 4]
    # What the pools hold has no graph behind it.
    assert not any(buffer.rows.requires_grad for buffer in model.image_buffers)


def test_discriminator_sees_the_pool():
    model = build(buffer_size=2).double()
    first, second = ([images(seed=s + i) for i in range(3)] for s in (0, 10))
    model.discriminator_losses(first, images(seed=50), model.plan_pools(images()))
    for buffer in model.image_buffers:
        buffer.buffer_ratio = 1.0  # always an old one
    seen = []
    model.discriminator.register_forward_hook(lambda m, args, out: seen.append(args[0]))
    model.discriminator_losses(second, images(seed=51), model.plan_pools(images()))
    old = {image.numpy().tobytes() for output in first for image in output}
    new = {image.numpy().tobytes() for output in second for image in output}
    fakes = [image.numpy().tobytes() for image in seen[0][2:]]
    assert len(fakes) == 6 and fakes[0] in old and set(fakes) <= old | new
    for buffer, output in zip(model.image_buffers, second):
        # One of each: pools do not mix outputs.
        assert any(torch.equal(held, image) for held in buffer.held() for image in output)


# ------------------------------------------------------------------ ablations


class Counter:
    """How often a module was called, and with how many images in all."""

    def __init__(self, module):
        self.calls = self.images = 0
        module.register_forward_pre_hook(self._count)

    def _count(self, module, args):
        self.calls += 1
        self.images += len(args[0])


@pytest.mark.parametrize("off", LOSSES)
@pytest.mark.parametrize("how", ["none", "zeros"])
def test_each_loss_can_be_switched_off(off, how):
    gray, color = images(2, 1, seed=1), images(seed=2)
    full, _ = build().double().generator_losses(gray, color)
    setting = None if how == "none" else {**config()[off], "weights": (0, 0, 0)}
    model = build(**{off: setting}).double()
    g, d = Counter(model.generator), Counter(model.discriminator)
    losses, fakes = model.generator_losses(gray, color)
    del full[LOSSES[off]]
    assert_losses(losses, {name: value.item() for name, value in full.items()})
    # Without identity nobody needs G(J), without BAB nobody G(H_t(J)).
    assert (g.calls, g.images) == (1, 2 * (2 if off in ("identity_loss", "cycle_bab_loss") else 3))
    assert (d.calls, d.images) == ((0, 0) if off == "gan_loss" else (1, 6))
    assert len(fakes) == (0 if off == "gan_loss" else 3)


@pytest.mark.parametrize("off", LOSSES)
def test_training_without_a_loss(off):
    model = build(**{off: None})
    still = resting(model)
    if off == "gan_loss":
        still |= {f"discriminator.{name}" for name, _ in model.discriminator.named_parameters()}
    log = assert_trains(model, lambda i: model.train_step(batch(), optimizers(model)), 2, still)
    assert LOSSES[off] not in log
    assert ("loss_d" in log) == (off != "gan_loss")


def test_without_gan_no_discriminator_is_needed():
    model = build(gan_loss=None, discriminator=None)
    assert_trains(
        model, lambda i: model.train_step(batch(), optimizers(model)), 2,
        resting(model),
    )  # fmt: skip


def test_output_ablation_trains_g_1_only():
    """N = 1 in the losses of a network with N = 3 (section 6.2.1)."""

    def first(loss):
        return {**config()[loss], "weights": [config()[loss]["weights"][0], 0, 0]}

    model = build(**{loss: first(loss) for loss in LOSSES}).double()
    mapping, d = Counter(model.generator.mapping), Counter(model.discriminator)
    gray, color = images(2, 1, seed=1), images(seed=2)
    losses, fakes = model.generator_losses(gray, color)
    assert (mapping.calls, d.images, len(fakes)) == (1, 2, 1)
    assert len(model.image_buffers) == 1
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in model.generator.parameters())
    # The same numbers as a network of one output.
    single = build(
        generator={**config()["generator"], "num_outputs": 1},
        **{loss: {**first(loss), "weights": first(loss)["weights"][:1]} for loss in LOSSES},
    ).double()
    expected, _ = single.generator_losses(gray, color)
    assert_losses(losses, {name: value.item() for name, value in expected.items()})
    # All outputs are still there to be evaluated.
    assert len(model.pyramid(gray)) == 3


def test_outputs_nobody_looks_at_are_not_computed():
    model = build(
        identity_loss=osp((5, 3, 0), type="L1Loss"),
        cycle_bab_loss=osp((10, 0, 0), type="L1Loss"),
        cycle_aba_loss=None,
        gan_loss=osp((1, 1, 0), type="GANLoss", gan_type="lsgan"),
    ).double()
    mapping, d = Counter(model.generator.mapping), Counter(model.discriminator)
    h = Counter(model.handcrafted_translation)
    model.generator_losses(images(2, 1, seed=1), images(seed=2))
    assert (mapping.calls, d.images) == (2, 4)
    assert h.calls == 1  # H_t(J) alone, since ABA is off


# ------------------------------------------------------------------ optimizer wrappers


def count_steps(wrappers):
    steps = dict.fromkeys(wrappers.keys(), 0)
    for name, wrapper in wrappers.items():
        original = wrapper.optimizer.step

        def step(*args, _name=name, _original=original, **kwargs):
            steps[_name] += 1
            return _original(*args, **kwargs)

        wrapper.optimizer.step = step
    return steps


def test_gradient_accumulation_equals_the_larger_batch():
    large, small = build().double(), build().double()
    whole = batch(4)
    large.train_step(copy.deepcopy(whole), optimizers(large))
    wrappers = optimizers(small, accumulative_counts=2)
    for wrapper in wrappers.values():
        wrapper.initialize_count_status(small, 0, 2)
    steps = count_steps(wrappers)
    start = weights(small)
    for half, done in ((slice(0, 2), 0), (slice(2, 4), 1)):
        small.train_step(
            dict(
                inputs={key: value[half] for key, value in whole["inputs"].items()},
                data_samples=copy.deepcopy(whole["data_samples"][half]),
            ),
            wrappers,
        )
        assert steps == {"generator": done, "discriminator": done}
    assert any(not torch.equal(start[name], p) for name, p in weights(small).items())
    for (name, a), b in zip(large.named_parameters(), small.parameters()):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=1e-9, msg=name)


@pytest.mark.parametrize("counts", [1, 2])
@pytest.mark.parametrize("off", [None, "gan_loss", "identity_loss"])
def test_joint_parted_and_plain_passes_are_one_step(counts, off):
    """The three ways to run the networks: the same losses, the same step, in rounding only."""
    off = {} if off is None else {off: None}
    ways = dict(joint=dict(joint_pixels=10**6), parted=dict(joint_pixels=0), plain=dict(fast=False))
    found = {}
    for way, setting in ways.items():
        model = build(**setting, **off).double()
        g = Counter(model.generator)
        wrappers = optimizers(model, accumulative_counts=counts)
        for wrapper in wrappers.values():
            wrapper.initialize_count_status(model, 0, counts)
        logs = [model.train_step(batch(seed=i), wrappers) for i in range(counts)]
        inputs = 2 if "identity_loss" in off else 3
        calls = counts if way == "joint" else counts * inputs
        assert (g.calls, g.images) == (calls, 2 * inputs * counts)
        found[way] = (logs, weights(model))
    for way in ("parted", "plain"):
        for expected, log in zip(found["joint"][0], found[way][0]):
            assert set(expected) == set(log)
            for name, value in expected.items():
                assert log[name].item() == pytest.approx(value.item(), rel=1e-9), (way, name)
        for name, value in found["joint"][1].items():
            torch.testing.assert_close(found[way][1][name], value, atol=1e-10, rtol=0)


def test_large_batches_go_apart():
    model = build(joint_pixels=2 * 24 * 28)
    assert model._parts(images(2)) == [["J", "H(J)", "I"]]
    assert model._parts(images(3)) == [["J"], ["H(J)"], ["I"]]


def test_batch_norm_never_sees_two_kinds_of_images():
    """Its networks are called as with ``fast=False``, and keep the same statistics."""
    found = []
    for setting in (dict(), dict(joint_pixels=0), dict(fast=False)):
        model = build(
            generator={**config()["generator"], "norm_cfg": dict(type="BN")},
            discriminator=dict(type="PatchDiscriminator", in_channels=3, base_channels=4),
            **setting,
        ).double()
        wrappers = optimizers(model)
        found.append((model.train_step(batch(size=(32, 32)), wrappers), model.state_dict()))
    for other in found[:2]:
        for ours, plain in zip(other, found[2]):
            for name, value in plain.items():
                torch.testing.assert_close(ours[name], value, atol=1e-9, rtol=1e-9, msg=name)


@pytest.mark.parametrize("frozen", ["discriminator.blocks.0", "discriminator", "generator"])
def test_what_is_frozen_stays(frozen):
    model = build()
    model.get_submodule(frozen).requires_grad_(False)
    still = {name for name in weights(model) if name.startswith(frozen)} | resting(model)
    wrappers = optimizers(model, clip_grad=dict(max_norm=1))
    assert_trains(model, lambda i: model.train_step(batch(), wrappers), 2, still)


class CPUAutocast(OptimWrapper):
    """What AmpOptimWrapper does on a GPU with bfloat16: autocast without a loss scale."""

    def optim_context(self, model):
        assert model is not None
        return torch.autocast("cpu", torch.bfloat16)


@pytest.mark.parametrize("exact", [False, True])
def test_training_under_autocast(exact):
    generator = config()["generator"]
    if exact:
        generator["consistency"] = dict(type="ExactConsistency")
    model, plain = build(generator=generator, buffer_size=2), build(generator=generator)
    seen = []
    down = model.generator.encoder[1].conv
    down.register_forward_hook(lambda m, args, out: seen.append(out.dtype))
    wrappers = optimizers(model, cls=CPUAutocast)
    log = model.train_step(batch(), wrappers)
    reference = plain.train_step(batch(), optimizers(plain))
    assert set(seen) == {torch.bfloat16}, "autocast must reach the network"
    for name, value in reference.items():
        if exact and name in ("loss_cycle_aba", "loss_contours"):
            # H_t is exact whatever the precision of G.
            assert log[name] < 1e-4
        else:
            torch.testing.assert_close(log[name].float(), value, rtol=0.1, atol=0.05, msg=name)
    step = lambda i: model.train_step(batch(seed=i), wrappers)  # noqa: E731
    assert_trains(model, step, 2, resting(model))


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU runs AmpOptimWrapper for real")
def test_mmengine_has_no_amp_without_gpu():
    """It says so when the wrapper is built, so nobody trains in another precision unknowingly."""
    with pytest.raises(AssertionError, match="on gpu"):
        optimizers(build(), cls=AmpOptimWrapper, dtype="bfloat16")


@pytest.mark.gpu
@pytest.mark.parametrize("kwargs", [dict(dtype="bfloat16"), dict(dtype="float16", loss_scale=64.0)])
def test_amp_on_gpu(kwargs):
    model = build(buffer_size=2).cuda()
    wrappers = optimizers(model, cls=AmpOptimWrapper, **kwargs)
    assert_trains(model, lambda i: model.train_step(batch(), wrappers), 2, resting(model))


class NoBackward(OptimWrapper):
    """There is no autograd on a simulated GPU."""

    def backward(self, loss):
        assert loss.requires_grad


def launches_of_a_step(n, dtype=None, **kwargs):
    model = build(buffer_size=50, **kwargs)
    with simulated_gpu(model, autocast=dtype) as launches:
        inputs = {
            key: torch.randn(n, 3, 32, 32, device="cuda") for key in ("img_gray", "img_color")
        }
        # mmagic's preprocessor decides by the values of small tensors, which it keeps on the CPU.
        model.data_preprocessor.forward = lambda data, training: dict(inputs=data)
        log = model.train_step(inputs, optimizers(model, cls=NoBackward))
        assert all(value.is_cuda and value.dtype == torch.float32 for value in log.values())
    return launches.names


@pytest.mark.parametrize("joint_pixels", [0, 32768])
@pytest.mark.parametrize("dtype", [None, torch.bfloat16, torch.float16])
def test_a_step_never_waits_for_the_gpu(dtype, joint_pixels):
    names = launches_of_a_step(2, dtype, joint_pixels=joint_pixels)
    assert names.count("aten.native_layer_norm.default") == (6 if joint_pixels else 3 * 6)
    # The pools' draws come from the host; else types change in mixed precision only.
    assert (names.count("aten._to_copy.default") > 1) == (dtype is not None)


# ------------------------------------------------------------------ inference


def expected_pictures(model, gray):
    """N×outputs×3×H×W, 0..255 BGR."""
    with torch.no_grad():
        outputs = torch.stack(model.generator(gray), 1)
    return ((outputs * 127.5 + 127.5).clamp(0, 255)).flip(2)


@pytest.mark.parametrize("step", ["val_step", "test_step"])
@pytest.mark.parametrize("training", [True, False])
def test_evaluation_step(step, training):
    model = build().train(training)
    data = batch(3)
    expected = expected_pictures(model, torch.stack(data["inputs"]["img_gray"]) / 127.5 - 1)
    color = torch.stack(data["inputs"]["img_color"])
    samples = getattr(model, step)(data)
    assert model.training == training
    for i, sample in enumerate(samples):
        torch.testing.assert_close(sample.fake_color_pyramid, expected[i], atol=3e-3, rtol=0)
        assert torch.equal(sample.fake_color, sample.fake_color_pyramid[0])
        assert not sample.fake_color.requires_grad
        # Its own fields, as mmagic's evaluation wants them: BGR.
        assert torch.equal(sample.img_color, color[i].flip(0)) and sample.sample_idx == i


def test_evaluation_of_gray_alone():
    model = build().eval()
    gray = images(2, 1, dtype=torch.float32) * 127.5 + 127.5
    expected = expected_pictures(model, (gray / 127.5 - 1).expand(-1, 3, -1, -1))
    for inputs in (dict(img_gray=list(gray)), gray):
        for sample, pictures in zip(model.val_step(dict(inputs=inputs)), expected):
            torch.testing.assert_close(sample.fake_color_pyramid, pictures, atol=3e-3, rtol=0)


def test_evaluation_of_several_sizes():
    preprocessor = {**config()["data_preprocessor"], "stack_data_sample": False}
    model = build(data_preprocessor=preprocessor).eval()
    data, large = batch(1, (23, 30)), batch(1, (32, 27), seed=1)
    for key in data["inputs"]:
        data["inputs"][key] += large["inputs"][key]
    data["data_samples"] += large["data_samples"]
    shapes = [s.fake_color_pyramid.shape[1:] for s in model.val_step(data)]
    assert shapes == [(3, 23, 30), (3, 32, 27)]


def test_translation_as_mmagics_models_give_it():
    model = build().double()
    mapping = Counter(model.generator.mapping)
    gray = images(2, 1)
    target = model.translation(gray, target_domain="color")
    assert mapping.calls == 1, "inference must not pay for the other outputs"
    assert torch.equal(target, model.generator(gray.expand(-1, 3, -1, -1))[0])
    # mmagic's inferencer writes channels 2, 1, 0.
    replicated = images(2, 1).expand(-1, 3, -1, -1)
    results = model(replicated, test_mode=True, target_domain="color")
    torch.testing.assert_close(results["target"].flip(1), target)
    assert torch.equal(results["source"].flip(1), replicated)
    assert torch.equal(model(gray, target_domain="color")["target"], target)
    with pytest.raises(ValueError, match="generates the domain color, not 'gray'"):
        model.translation(gray, target_domain="gray")


def test_domains_of_other_names():
    model = build(default_domain="sar", reachable_domains=["sar"], related_domains=["ir", "sar"],
                  data_preprocessor=dict(type="DataPreprocessor", output_channel_order="RGB",
                                         data_keys=["img_ir", "img_sar"]))  # fmt: skip
    data = batch(domains=("ir", "sar"))
    assert_trains(model, lambda i: model.train_step(data, optimizers(model)), 2, resting(model))
    (sample, _) = model.val_step(batch(domains=("ir", "sar")))
    assert sample.fake_sar.shape == (3, 24, 28) and "fake_sar_pyramid" in sample


def test_checkpoint_holds_the_networks_alone():
    model = build()
    assert {name.split(".")[0] for name in model.state_dict()} == {"generator", "discriminator"}
    assert model.handcrafted_translation.weight.numel() == 3
    trained = sum(p.numel() for p in model.parameters())
    assert trained == sum(p.numel() for p in model.state_dict().values())


def test_default_preprocessor():
    model = build(data_preprocessor=None)
    inputs = model.data_preprocessor(batch(), True)["inputs"]
    expected = torch.stack(batch()["inputs"]["img_color"]) / 127.5 - 1
    torch.testing.assert_close(inputs["img_color"], expected)


@pytest.mark.parametrize("given", [None, dict(type="DataPreprocessor", output_channel_order="RGB")])
def test_evaluation_has_real_and_fake_in_one_order(given):
    """Also where nobody has named the data_keys: a generator that is right scores 0."""
    model, data = build(data_preprocessor=given).eval(), batch()
    model.pyramid = lambda gray: [torch.stack(batch()["inputs"]["img_color"]) / 127.5 - 1]
    for sample in model.val_step(data):
        torch.testing.assert_close(sample.fake_color, sample.img_color, atol=3e-3, rtol=0)


# ------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    "kwargs, words",
    [
        (dict(buffer_size=-1), "SpyncoGAN: buffer_size must be whole and at least 0, got -1"),
        (dict(discriminator=None), "gan_loss needs a discriminator; give one or drop the loss"),
        (dict(identity_loss=osp((1, 1), type="L1Loss")), "identity_loss must be an OSPLoss with 3"),
        (
            dict(
                contours_loss=osp(
                    ZETA, type="mmengine.Conv2d", in_channels=3, out_channels=1, kernel_size=1
                )
            ),
            "contours_loss has the weights loss.weight, loss.bias, but trains those of the gen",
        ),
        (dict(cycle_aba_loss=dict(type="L1Loss")), "cycle_aba_loss must be an OSPLoss with 3"),
        (dict(reachable_domains=["color", "gray"]), "one reachable domain"),
        (dict(related_domains=["a", "b", "color"]), "two related domains"),
        (
            dict(data_preprocessor=dict(type="DataPreprocessor")),
            "weighs red, green and blue, so data_preprocessor needs output_channel_order='RGB'",
        ),
        (
            dict(data_preprocessor={**config()["data_preprocessor"], "data_keys": ["img_gray"]}),
            "needs 'img_color' among its data_keys, or an evaluation would compare outputs in BGR",
        ),
        (
            dict(
                handcrafted_translation=dict(type="HandcraftedTranslation", weights="mean"),
                generator={**config()["generator"], "consistency": dict(type="ExactConsistency")},
            ),
            "consistency and handcrafted_translation differ; give both the same weights",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_impossible_configs(kwargs, words):
    with pytest.raises(ValueError, match=words):
        build(**kwargs)


def test_nothing_to_train():
    model = build(**dict.fromkeys(LOSSES))
    with pytest.raises(ValueError, match="every loss is switched off"):
        model.train_step(batch(), optimizers(model))


def test_batches_of_two_sizes():
    model = build()
    data = batch()
    data["inputs"]["img_gray"] = batch(size=(16, 28))["inputs"]["img_gray"]
    data["data_samples"] = None
    with pytest.raises(ValueError, match="batches of one size, got img_gray 2×1×16×28 and img_col"):
        model.train_step(data, optimizers(model))


def test_gray_of_two_channels():
    with pytest.raises(ValueError, match="img_gray needs 1 channels, or 3 to be translated, got 2"):
        build().double().pyramid(images(channels=2))
