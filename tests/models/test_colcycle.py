import pytest
import torch
import torch.nn.functional as F
from mmagic.registry import MODELS
from mmengine.config import Config

import spynco_mm  # noqa: F401


def parameters(module):
    return sum(p.numel() for p in module.parameters())


def conv(c_in, c_out, *taps):
    """Parameters of a convolution with bias, or of the two of a separable one."""
    return sum(a * b * k + b for a, b, k in zip([c_in, c_out], [c_out, c_out], taps))


def test_layers_and_filters_of_section_6_2_2():
    colcycle = MODELS.build(dict(type="ColCycleGenerator"))
    spynco = MODELS.build(dict(type="SpyncoGenerator"))
    # Encoder and residual blocks are SpyncoGan's, with the same filters.
    for part in ("encoder", "residual"):
        ours, theirs = (
            {k: v.shape for k, v in getattr(g, part).state_dict().items()}
            for g in (colcycle, spynco)
        )
        assert ours == theirs
    assert len(colcycle.decoder) == len(spynco.decoder) == 2
    # 256 -> 128 -> 64 -> 3 instead of 256 -> 256 -> 256 -> 3.
    expected = (
        conv(3, 64, 81) + conv(64, 128, 5, 5) + conv(128, 256, 5, 5) + 6 * conv(256, 256, 9)
        + conv(256, 128, 3, 3) + conv(128, 64, 3, 3) + conv(64, 3, 25)
    )  # fmt: skip
    assert parameters(colcycle) == expected == 4_360_771


def test_whole_baseline_has_two_of_each():
    model = Config.fromfile("configs/colcycle_ucmerced.py").model
    model = MODELS.build(model)
    assert parameters(model) == 2 * (4_360_771 + 2_084_801) == 12_891_144
    assert parameters(model.discriminators["color"]) == 2_084_801


def test_upsampling_is_nearest_before_the_convolution():
    torch.manual_seed(0)
    generator = MODELS.build(dict(type="ColCycleGenerator", base_channels=4, num_blocks=1)).double()
    x = torch.rand(2, 3, 16, 24, dtype=torch.float64) * 2 - 1
    features = generator.residual(generator.encoder(x))
    for block in generator.decoder:
        features = F.interpolate(features, scale_factor=2, mode="nearest")
        for layer in block.conv:
            features = F.conv2d(features, layer.weight, layer.bias, padding=layer.padding)
        features = F.relu(F.instance_norm(features))
    mapping = generator.mapping
    image = torch.tanh(F.conv2d(features, mapping.weight, mapping.bias, padding=2))
    torch.testing.assert_close(generator(x), image)


def test_output_is_one_image_of_any_size():
    generator = MODELS.build(dict(type="ColCycleGenerator", base_channels=4)).eval()
    with torch.no_grad():
        image = generator(torch.zeros(1, 3, 18, 21))
    assert image.shape == (1, 3, 18, 21) and image.abs().max() <= 1


def test_errors_name_the_generator():
    generator = MODELS.build(dict(type="ColCycleGenerator", base_channels=4))
    with pytest.raises(ValueError, match="ColCycleGenerator takes N×3×H×W images, got 1×1×16×16"):
        generator(torch.zeros(1, 1, 16, 16))
    with pytest.raises(TypeError):
        MODELS.build(dict(type="ColCycleGenerator", num_outputs=3))
