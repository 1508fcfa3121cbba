import os

# Two cores, often shared: more threads only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "2")

import pytest
from mmengine.registry import init_default_scope

import spynco_mm  # noqa: F401  (registers everything)


@pytest.fixture(autouse=True)
def mmagic_scope():
    """Configs say ``type='CycleGAN'`` without a prefix, as under a Runner."""
    init_default_scope("mmagic")
