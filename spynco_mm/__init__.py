"""SpyncoGan for mmagic: import this package, and everything is registered.

In a config: ``custom_imports = dict(imports=["spynco_mm"], allow_failed_imports=False)``.
"""

import warnings

from . import compat
from .version import __version__

compat.check_versions()
compat.before_mmagic()

with warnings.catch_warnings():
    # What the diffusers and transformers of this set warn about is mmagic's to change, not the user's.
    warnings.simplefilter("ignore", FutureWarning)
    import mmagic.models  # noqa: F401

compat.after_mmagic()

from . import datasets, engine, evaluation, models, visualization

__all__ = ["__version__", "compat", "datasets", "engine", "evaluation", "models", "visualization"]
