"""Our parts inside mmagic's models, mmagic's inside ours: each takes real training steps."""

import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from mmagic.registry import MODELS
from mmagic.structures import DataSample
from mmengine import MessageHub
from mmengine.optim import OptimWrapper
from small_models import assert_trains, batch, build, images, optimizers, osp, resting

SPYNCO_G = dict(
    type="SpyncoGenerator", base_channels=3, num_blocks=1, num_outputs=3, return_pyramid=False
)
SPYNCO_D = dict(type="SpyncoDiscriminator", channels=(4, 6, 8, 10))
RESNET_G = dict(
    type="ResnetGenerator", in_channels=3, out_channels=3, base_channels=4, num_blocks=1
)
PATCH_D = dict(type="PatchDiscriminator", in_channels=3, base_channels=4, num_conv=2)
GRAY3 = dict(type="HandcraftedTranslation", weights=[[0.299, 0.587, 0.114]] * 3)
PREPROCESSOR = dict(type="DataPreprocessor", output_channel_order="RGB", data_keys=None)


def translation_model(kind, generator, discriminator, **kwargs):
    """One of mmagic's, as its runner would make it: built, then initialised."""
    torch.manual_seed(0)
    domains = ["color", "gray"]
    model = MODELS.build(
        dict(
            type=kind,
            data_preprocessor=PREPROCESSOR,
            generator=generator,
            discriminator=discriminator,
            default_domain="color",
            reachable_domains=["color"] if kind == "Pix2Pix" else domains,
            related_domains=domains,
            **kwargs,
        )
    )
    model.init_weights()
    return model


def step_of(model, names=("generators", "discriminators")):
    wrappers = optimizers(model, names, lr=0.1)

    def step(i):
        MessageHub.get_current_instance().update_info("iter", i)  # as the runner does
        return model.train_step(batch(seed=i), wrappers)

    return step


def assert_evaluates(model, exact):
    """Pictures of any size, in evaluation mode, which colours are brought into range in."""
    model.eval()
    torch.nn.init.normal_(model.get_module(model.generators)["color"].mapping.weight)
    for _ in range(2):  # It is still so after mmagic has switched the rest to training.
        (sample, _) = model.val_step(batch(size=(25, 30)))
        assert sample.fake_color.shape == (3, 25, 30)
        blue, green, red = sample.fake_color.clamp(0, 255)
        luma = 0.299 * red + 0.587 * green + 0.114 * blue
        assert ((luma - sample.img_gray[0]).abs().max() < 1e-3) == exact


@pytest.mark.parametrize("consistency", [None, dict(type="ExactConsistency")])
def test_our_networks_inside_cyclegan(consistency):
    generator = {**SPYNCO_G, "consistency": consistency}
    model = translation_model("CycleGAN", generator, SPYNCO_D)
    log = assert_trains(model, step_of(model), still=resting(model))
    assert {"loss_gan_g_color", "cycle_loss", "id_loss", "loss_gan_d_gray"} <= set(log)
    assert_evaluates(model, exact=consistency is not None)


def test_our_networks_inside_pix2pix():
    """Its discriminator judges source and target side by side."""
    generator = {**SPYNCO_G, "consistency": dict(type="ExactConsistency")}
    model = translation_model("Pix2Pix", generator, {**SPYNCO_D, "in_channels": 6})
    log = assert_trains(model, step_of(model), still=resting(model))
    assert {"loss_gan_g", "loss_pixel", "loss_gan_d_real"} <= set(log)
    assert_evaluates(model, exact=True)


def test_mmagics_networks_inside_spyncogan():
    """Its generator is a pyramid of one."""
    model = build(
        generator=RESNET_G,
        discriminator=PATCH_D,
        identity_loss=osp((5,), type="L1Loss"),
        cycle_bab_loss=osp((10,), type="CharbonnierLoss"),
        cycle_aba_loss=osp((10,), type="MSELoss"),
        gan_loss=osp((1,), type="GANLoss", gan_type="vanilla"),
        contours_loss=osp((1,), type="ContoursLoss"),
    )
    model.init_weights()
    log = assert_trains(model, step_of(model, ("generator", "discriminator")))
    assert log["loss_gan_d_real"] > 0 and log["loss_contours"] > 0
    (sample, _) = model.val_step(batch())
    assert sample.fake_color_pyramid.shape == (1, 3, 24, 28)
    assert model.translation(images(1, 1).float()).shape == (1, 3, 24, 28)


def super_resolution_step(model, optimizer):
    """A step of mmagic's models of pairs, from a picture to itself."""
    pictures = images(2, dtype=torch.float32) * 127.5 + 127.5

    def step(i):
        data = dict(inputs=list(pictures), data_samples=[DataSample(gt_img=p) for p in pictures])
        return model.train_step(data, optimizer)

    return step


def test_our_networks_inside_srgan():
    torch.manual_seed(0)
    model = MODELS.build(
        dict(
            type="SRGAN",
            data_preprocessor=dict(type="DataPreprocessor"),
            generator=SPYNCO_G,
            discriminator=SPYNCO_D,
            pixel_loss=dict(type="L1Loss"),
            gan_loss=dict(type="GANLoss", gan_type="lsgan", loss_weight=0.1),
        )
    )
    for network in (model.generator, model.discriminator):
        network.init_weights()
    step = super_resolution_step(model, optimizers(model, ("generator", "discriminator"), lr=0.1))
    log = assert_trains(model, step, still=resting(model))
    assert {"loss_pix", "loss_gan", "loss_d_real", "loss_d_fake"} <= set(log)


def test_networks_of_super_resolution_inside_spyncogan():
    model = build(
        generator=dict(type="SRCNNNet", channels=(3, 4, 4, 3), upscale_factor=1),
        discriminator=dict(type="UNetDiscriminatorWithSpectralNorm", in_channels=3, mid_channels=2),
        identity_loss=osp((5,), type="CharbonnierLoss"),
        cycle_bab_loss=osp((10,), type="L1Loss"),
        cycle_aba_loss=None,
        gan_loss=osp((1,), type="GANLoss", gan_type="vanilla"),
        contours_loss=None,
    )
    wrappers = optimizers(model, lr=0.1)
    log = assert_trains(model, lambda i: model.train_step(batch(size=(24, 32), seed=i), wrappers))
    assert {"loss_identity", "loss_cycle_bab", "loss_gan_g"} <= set(log)


def third_party_loss():
    """The one that the documentation shows: CUT's contrast of patches (Park et al. 2020)."""
    page = Path(__file__).parents[2] / "docs" / "mmagic.md"
    (code,) = re.findall(r"^```python\n(@MODELS\..*?)^```", page.read_text(), re.M | re.S)
    names = dict(MODELS=MODELS, nn=torch.nn, F=F, torch=torch)
    exec(code, names)
    return names["PatchNCE"]


def test_a_loss_of_a_third_party_over_the_pyramid():
    """In place of the contours, G_1, G_2 and G_3 against the grey picture."""
    loss = third_party_loss()()
    model = build(contours_loss=osp((1, 0.5, 0.5), type="PatchNCE"), cycle_aba_loss=None)
    step = step_of(model, ("generator", "discriminator"))
    log = assert_trains(model, step, still=resting(model))
    pyramid = model.generator(images(2, 1, dtype=torch.float32).expand(-1, 3, -1, -1))
    target = images(2, 1, seed=1, dtype=torch.float32)
    by_hand = [loss(output, target) for output in pyramid]
    total = model.contours_loss(pyramid, target)
    torch.testing.assert_close(total, by_hand[0] + 0.5 * by_hand[1] + 0.5 * by_hand[2])
    # What is at its place costs least.
    assert loss(target, target) < loss(target.flip(3), target)
    assert log["loss_contours"] > 0


def test_one_of_each():
    model = build(generator={**SPYNCO_G, "return_pyramid": True}, discriminator=PATCH_D)
    model.init_weights()
    step = step_of(model, ("generator", "discriminator"))
    assert_trains(model, step, still=resting(model))


@pytest.mark.parametrize("generator", [RESNET_G, SPYNCO_G], ids=lambda c: c["type"])
def test_handcrafted_translation_as_one_direction_of_cyclegan(generator):
    model = translation_model(
        "PseudoCycleGAN", generator, PATCH_D, handcrafted_translations=dict(gray=GRAY3)
    )
    assert not list(model.generators["gray"].parameters())
    still = resting(model)
    log = assert_trains(model, step_of(model), still=still)
    # H_t(gray) is gray: the half that needs no learning has no identity loss either.
    gray = images(2, 1, dtype=torch.float32).expand(-1, 3, -1, -1)
    torch.testing.assert_close(model.generators["gray"](gray), gray)
    assert log["loss_gan_g_gray"] > 0
    (sample, _) = model.test_step(batch())
    color = torch.stack(batch()["inputs"]["img_color"])[0]
    expected = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2]
    torch.testing.assert_close(sample.fake_gray, expected.expand(3, -1, -1), atol=1e-3, rtol=0)


def test_direction_that_cyclegan_does_not_have():
    with pytest.raises(ValueError, match=r"'grey' is none of the reachable domains \['color'"):
        translation_model(
            "PseudoCycleGAN", RESNET_G, PATCH_D, handcrafted_translations=dict(grey=GRAY3)
        )


@pytest.mark.parametrize("loss", ["L1Loss", "MSELoss", "CharbonnierLoss", "ContoursLoss"])
def test_pyramid_losses_in_mmagics_restoration_model(loss):
    """BaseEditModel knows no pyramid: OSPLoss alone makes it train one."""
    torch.manual_seed(0)
    model = MODELS.build(
        dict(
            type="BaseEditModel",
            data_preprocessor=dict(type="DataPreprocessor"),
            generator={**SPYNCO_G, "return_pyramid": True},
            pixel_loss=osp((5, 3, 2), type=loss),
        )
    )
    model.generator.init_weights()
    optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
    assert_trains(model, super_resolution_step(model, optimizer), still=resting(model))


def test_contours_loss_alone_in_mmagics_restoration_model():
    torch.manual_seed(0)
    model = MODELS.build(
        dict(
            type="BaseEditModel",
            data_preprocessor=dict(type="DataPreprocessor"),
            generator=dict(type="SRCNNNet", channels=(3, 4, 4, 3), upscale_factor=1),
            pixel_loss=dict(type="ContoursLoss", loss_weight=0.5),
        )
    )
    # Contours do not see a level.
    model.generator.conv3.bias.requires_grad_(False)
    optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
    assert_trains(model, super_resolution_step(model, optimizer), still={"generator.conv3.bias"})
