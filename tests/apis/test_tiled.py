import pytest
import torch
from skimage import data

from spynco_mm.apis.tiled import tiled_pyramid
from spynco_mm.datasets.images import DataError
from spynco_mm.models import ColCycleGenerator, SpyncoGenerator


def generator(cls=SpyncoGenerator, **kwargs):
    torch.manual_seed(0)
    network = cls(**{"base_channels": 6, "num_blocks": 2, **kwargs})
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, 0, 0.15)
    return network.eval()


def photo(height, width):
    """A real photograph, grey, as a 1×1×H×W tensor in [-1, 1]."""
    return torch.from_numpy(data.camera()[:height, :width].copy())[None, None] / 127.5 - 1


def tiled(network, image, outputs, tile=64):
    """The result put together, and how often each pixel was written."""
    results = {i: torch.zeros(1, 3, *image.shape[2:]) for i in outputs}
    written = {i: torch.zeros(image.shape[2:]) for i in outputs}

    def write(i, box, values):
        top, bottom, left, right = box
        results[i][..., top:bottom, left:right] = values
        written[i][top:bottom, left:right] += 1

    tiled_pyramid(network, image, write, outputs, tile)
    assert all((count == 1).all() for count in written.values())
    return results


@pytest.mark.parametrize(
    ("kwargs", "size"),
    [
        (dict(), (212, 316)),
        (dict(), (16, 400)),
        (dict(), (400, 16)),
        (dict(consistency=dict(type="ExactConsistency")), (132, 196)),
        (dict(upsample_mode="bilinear"), (132, 196)),
        (dict(padding_mode="reflect"), (132, 196)),
        (dict(padding_mode="replicate", fast=False), (132, 196)),
        (dict(norm_cfg=dict(type="IN", affine=True)), (132, 196)),
        (dict(norm_cfg=dict(type="BN")), (132, 196)),
        (dict(norm_cfg=None), (132, 196)),
        (dict(cls=ColCycleGenerator), (132, 196)),
        (dict(num_down=3, num_outputs=4), (136, 200)),
        (dict(num_down=1, num_outputs=2), (132, 196)),
        (dict(stem_kernel=3, down_kernel=7, up_kernel=5, mapping_kernel=9), (132, 196)),
        (dict(residual_kernel=9, upsample_mode="bilinear"), (132, 196)),
    ],
)
def test_the_result_is_that_of_the_whole_network(kwargs, size):
    network, image = generator(**kwargs), photo(*size)
    with torch.no_grad():
        pyramid = network(image.expand(-1, 3, -1, -1), num_outputs=network.num_outputs)
    results = tiled(network, image, range(1, len(pyramid) + 1))
    for i, want in enumerate(pyramid, start=1):
        # A tenth of an 8-bit level. The whole network rounds as Winograd does, and with one thread
        # otherwise than with two.
        torch.testing.assert_close(results[i], want, rtol=0, atol=8e-4)


def test_tiles_by_themselves_would_differ():
    """What the shared statistics are for."""
    network, image = generator(), photo(256, 256)
    with torch.no_grad():
        whole = network(image.expand(-1, 3, -1, -1), num_outputs=1)[0]
        tile = network(image[..., :128, :128].expand(-1, 3, -1, -1), num_outputs=1)[0]
    inner = slice(0, 64)  # far from where the tile ends
    assert (whole[..., inner, inner] - tile[..., inner, inner]).abs().mean() > 0.05


def test_what_no_output_needs_is_not_computed():
    network, image = generator(), photo(64, 96)
    calls = []
    for level, block in enumerate(network.decoder, start=1):
        block.conv[0].forward = None
        block.forward = lambda x, n=level: calls.append(n)
    with torch.no_grad():
        features = network.residual(network.encoder(image.expand(-1, 3, -1, -1)))
        want = torch.tanh(network.mapping(features, 2))
    torch.testing.assert_close(tiled(network, image, [3])[3], want, rtol=0, atol=1e-4)
    assert not calls


def test_what_cannot_be_tiled():
    def write(i, box, values):
        raise AssertionError

    with pytest.raises(ValueError, match="Only SpyncoGenerator can be tiled, not Conv2d"):
        tiled_pyramid(torch.nn.Conv2d(3, 3, 1), photo(32, 32), write)
    for image in (photo(30, 32), photo(12, 64), photo(32, 32).expand(2, -1, -1, -1)):
        with pytest.raises(ValueError, match="sides are multiples of 4 and at least 16"):
            tiled_pyramid(generator(), image, write)
    with pytest.raises(DataError, match=r"Only instance norm and batch norm .* not GroupNorm"):
        network = generator(norm_cfg=dict(type="GN", num_groups=2))
        tiled_pyramid(network, photo(32, 32), write)
