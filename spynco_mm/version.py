"""This release, and what it works with: the one place for both, which setup.py reads too."""

__version__ = "0.1.0"

#: Versions of mmagic and its family. One package of each group must be there; of mmcv either build
#: will do, since nothing here calls its compiled operators.
SUPPORTED = (
    {"torch": ">=2.6"},
    {"mmengine": ">=0.10.4,<1"},
    {"mmcv": ">=2.0,<2.2", "mmcv-lite": ">=2.0,<2.2"},
    {"mmagic": ">=1.2,<1.3"},
)
