from . import compat

compat.before_mmagic()

import mmagic.models  # noqa: F401

compat.after_mmagic()

from . import models  # noqa: F401
from . import datasets, engine  # noqa: F401
