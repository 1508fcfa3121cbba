from functools import partial

import pytest
from forked import context
from torch.multiprocessing import start_processes

from reproduction import runs


@pytest.fixture(scope="session")
def quick_starts():
    """Trainings start with mmagic imported, instead of importing it each."""
    context()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "start_processes", partial(start_processes, start_method="forkserver"))
        yield
