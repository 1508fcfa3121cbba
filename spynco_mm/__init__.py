from . import compat

compat.before_mmagic()
import mmagic.models

compat.after_mmagic()
