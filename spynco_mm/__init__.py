"""SpyncoGan for mmagic: import this package, and everything is registered.

In a config: ``custom_imports = dict(imports=["spynco_mm"], allow_failed_imports=False)``.
"""

import warnings

from . import compat
from .version import __version__

compat.check_versions()
compat.before_mmagic()

with warnings.catch_warnings():
    # About what mmagic's dependencies do, which no user of this package can change.
    warnings.simplefilter("ignore", FutureWarning)
    import mmagic.models  # noqa: F401

compat.after_mmagic()

from . import datasets, engine, evaluation, models, visualization
from .engine.guard_hook import GuardHook
from .utils.checkpoint import read_checkpoint

compat.load_checkpoints_with(read_checkpoint)
compat.add_hook_to_all_runners(GuardHook)

__all__ = ["__version__", "compat", "datasets", "engine", "evaluation", "models", "visualization"]
