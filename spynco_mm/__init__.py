"""SpyncoGan for mmagic: import this package, and everything is registered.

In a config: ``custom_imports = dict(imports=["spynco_mm"], allow_failed_imports=False)``.
"""

import importlib
import warnings

from . import compat, compat_imports
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


def _register_inferencer(module):
    importlib.import_module("spynco_mm.apis.inferencer").register(module.MMagicInferencer)


compat.load_checkpoints_with(read_checkpoint)
compat.add_hook_to_all_runners(GuardHook)
compat.leave_in_evaluation(models.SpyncoGenerator)
# Neither mmagic's apis nor ours are loaded until somebody asks for mmagic's.
compat_imports.after_import("mmagic.apis.mmagic_inferencer", _register_inferencer)

__all__ = ["__version__", "compat", "datasets", "engine", "evaluation", "models", "visualization"]
