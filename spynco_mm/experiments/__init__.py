from .reproduce import TARGETS, reproduce
from .runs import Run, Study

__all__ = ["TARGETS", "Run", "Study", "reproduce"]
