"""What tests need not do again and again. Imported by pytest and where its processes are forked."""

import functools

import mmengine.config.config

from spynco_mm.datasets import photographs

# Runs read the same ten photographs, half a second each time.
photographs.read_image = functools.cache(photographs.read_image)

# mmengine lays out the text of the config prettily for each checkpoint and each log, which takes
# longer than the trainings of tests do. It says the same without that.
mmengine.config.config.FormatCode = lambda text, **style: (text, True)
