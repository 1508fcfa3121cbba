"""The paper's tables and figures: trainings, evaluations and pictures (``tools/reproduce.py``).

Importing it registers what only its own configs name: ``ImageClassifier``, ``DomainAccuracy`` and
``ColorizedSetWriter``. Those configs import it by ``custom_imports``, and every script of tools/
finds it, since Python looks in the folder of a script first.
"""

from . import classifiers, colorized_set, domain_accuracy

__all__ = ["classifiers", "colorized_set", "domain_accuracy"]
