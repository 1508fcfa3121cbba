"""How a network starts."""

import pytest
import torch
from torch import nn

from spynco_mm.models import SpyncoDiscriminator, SpyncoGenerator


def convolutions(network):
    return [m for m in network.modules() if isinstance(m, nn.Conv2d)]


@pytest.mark.parametrize("cls", [SpyncoGenerator, SpyncoDiscriminator])
@pytest.mark.parametrize("init_cfg, std", [(None, 0.02), (dict(type="normal", gain=0.1), 0.1)])
def test_every_convolution_starts_normal(cls, init_cfg, std):
    torch.manual_seed(0)
    network = cls(init_cfg=init_cfg)
    network.init_weights()
    for conv in convolutions(network):
        # Five standard errors of the sample deviation.
        assert abs(conv.weight.std() / std - 1) < 5 / (2 * conv.weight.numel()) ** 0.5
        assert conv.bias is None or not conv.bias.any()


@pytest.mark.parametrize("kind", ["xavier", "kaiming"])
def test_other_initialisations(kind):
    torch.manual_seed(0)
    network = SpyncoDiscriminator(init_cfg=dict(type=kind, gain=1.0))
    network.init_weights()
    conv = network.blocks[2].conv[0]  # 128 → 256 channels, 4 taps
    fan_in, fan_out = 128 * 4, 256 * 4
    std = {"xavier": (2 / (fan_in + fan_out)) ** 0.5, "kaiming": (2 / fan_in) ** 0.5}[kind]
    assert abs(conv.weight.std() / std - 1) < 0.02


def test_pretrained(tmp_path):
    small = dict(base_channels=2, num_blocks=1)
    source = SpyncoGenerator(**small)
    torch.save(source.state_dict(), tmp_path / "g.pth")
    init_cfg = dict(type="Pretrained", checkpoint=str(tmp_path / "g.pth"))
    network = SpyncoGenerator(**small, init_cfg=init_cfg)
    network.init_weights()
    for name, value in source.state_dict().items():
        assert torch.equal(network.state_dict()[name], value)


@pytest.mark.parametrize("cls", [SpyncoGenerator, SpyncoDiscriminator])
def test_unknown_initialisation(cls):
    with pytest.raises(ValueError, match=f"{cls.__name__}: the type of init_cfg is .*'magic'"):
        cls(init_cfg=dict(type="magic"))
    with pytest.raises(ValueError, match=r"got \[\{'type': 'Kaiming'"):
        cls(init_cfg=[dict(type="Kaiming", layer="Conv2d")])
    with pytest.raises(ValueError, match=r"init_cfg has a type and a gain, not \['std'\]"):
        cls(init_cfg=dict(type="normal", std=0.5))
