"""A SpyncoGAN small enough to train in a test, batches as a data loader gives them, optimizers."""

import torch
from mmagic.registry import MODELS
from mmagic.structures import DataSample
from mmengine.optim import OptimWrapper, OptimWrapperDict

from spynco_mm.models.layers import ConvBlock, SeparableConv

ALPHA, BETA, GAMMA, ZETA = (5, 3, 2), (10, 6, 4), (1, 1, 1), (1, 0, 0)


def osp(weights, **loss):
    return dict(type="OSPLoss", loss=loss, weights=weights)


def config(**kwargs):
    """The paper's losses on narrow networks, without image pools."""
    settings = dict(
        type="SpyncoGAN",
        data_preprocessor=dict(
            type="DataPreprocessor", output_channel_order="RGB", data_keys=["img_gray", "img_color"]
        ),
        generator=dict(type="SpyncoGenerator", base_channels=3, num_blocks=1),
        discriminator=dict(type="SpyncoDiscriminator", channels=(4, 6, 8, 10)),
        identity_loss=osp(ALPHA, type="L1Loss"),
        cycle_bab_loss=osp(BETA, type="L1Loss"),
        cycle_aba_loss=osp(BETA, type="L1Loss"),
        gan_loss=osp(GAMMA, type="GANLoss", gan_type="lsgan"),
        contours_loss=osp(ZETA, type="ContoursLoss"),
        buffer_size=0,
    )
    return {**settings, **kwargs}


def build(seed=0, **kwargs):
    torch.manual_seed(seed)
    model = MODELS.build(config(**kwargs))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 0.05, 0.3)
    return model


def images(n=2, channels=3, size=(24, 28), seed=0, dtype=torch.float64):
    """Between -1 and 1."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, channels, *size, generator=generator, dtype=dtype) * 2 - 1


def batch(n=2, size=(24, 28), seed=0, domains=("gray", "color"), channels=3):
    """Unpaired RGB images in 0..255, the first domain grey and replicated."""
    color = (images(n, channels, size, seed, torch.float32) * 127.5 + 127.5).round()
    gray = (images(n, 1, size, seed + 100, torch.float32) * 127.5 + 127.5).expand(-1, 3, -1, -1)
    keys = [f"img_{domain}" for domain in domains]
    order = {f"{key}_channel_order": "rgb" for key in keys}
    return dict(
        inputs=dict(zip(keys, (list(gray), list(color)))),
        data_samples=[
            DataSample(**dict(zip(keys, pair)), metainfo={**order, "sample_idx": i})
            for i, pair in enumerate(zip(gray, color))
        ],
    )


def optimizers(model, names=("generator", "discriminator"), cls=OptimWrapper, lr=1e-3, **kwargs):
    """One for each of the model's networks, SGD, so that a step shows the gradient."""
    return OptimWrapperDict(
        **{
            name: cls(optimizer=torch.optim.SGD(getattr(model, name).parameters(), lr=lr), **kwargs)
            for name in names
            if getattr(model, name, None) is not None
        }
    )


def weights(module):
    return {name: p.detach().clone() for name, p in module.named_parameters()}


def assert_trains(model, step, steps=2, still=()):
    """Take real steps: losses and weights stay finite, and all weights but ``still`` change."""
    before = weights(model)
    for i in range(steps):
        log = step(i)
        assert log and all(torch.isfinite(torch.as_tensor(v)).all() for v in log.values()), log
    after = weights(model)
    assert all(torch.isfinite(p).all() for p in after.values())
    stuck = {name for name in before if torch.equal(before[name], after[name])}
    assert stuck == set(still), f"only one set has {stuck ^ set(still)}"
    return log


def resting(model):
    """Names of the biases that instance norm removes, wherever our networks are in a model."""
    names = {p: name for name, p in model.named_parameters()}
    blocks = [m for m in model.modules() if isinstance(m, ConvBlock)]
    convs = [b.conv[-1] if isinstance(b.conv, SeparableConv) else b.conv for b in blocks]
    return {
        names[conv.bias]
        for block, conv in zip(blocks, convs)
        if isinstance(block.norm, torch.nn.InstanceNorm2d)
    }
