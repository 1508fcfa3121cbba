from . import compat

compat.before_mmagic()

import mmagic.models  # noqa: F401

compat.after_mmagic()

from . import datasets, engine, evaluation, models, visualization  # noqa: F401
