import pytest
import torch
from torch import nn

from spynco_mm.models import SpyncoGenerator
from spynco_mm.models.adapter import AnyGenerator

SMALL = dict(base_channels=2, num_blocks=1)


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("return_pyramid", [False, True])
def test_our_generator_answers_for_itself(wrapped, return_pyramid):
    network = SpyncoGenerator(num_down=1, num_outputs=2, return_pyramid=return_pyramid, **SMALL)
    run = AnyGenerator(nn.DataParallel(network) if wrapped else network)
    assert (run.num_outputs, run.stride, run.min_size, run.consistency) == (2, 2, 8, None)
    assert run.bytes_per_pixel() == 4 * network.values_per_pixel
    x = torch.rand(1, 3, 8, 10)
    assert [len(run(x)), len(run(x, 2)), len(run(x, num_outputs=1))] == [2, 2, 1]
    assert torch.equal(run(x)[0], network(x, num_outputs=1)[0])


def test_another_network_is_a_pyramid_of_one():
    network = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.Conv2d(5, 3, 1))
    run = AnyGenerator(network)
    assert (run.num_outputs, run.stride, run.min_size, run.consistency) == (1, 4, 16, None)
    assert run.bytes_per_pixel() == 4 * 4 * 5
    x = torch.rand(1, 3, 16, 16)
    (output,) = run(x, num_outputs=1)
    assert torch.equal(output, network(x))
