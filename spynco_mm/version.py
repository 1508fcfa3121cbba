"""This release, and what it works with: the one place for both, which setup.py reads too."""

__version__ = "0.2.0.dev0"

#: Versions of mmagic and its family. One package of each group must be there, or another that
#: brings the module that the first is named after; of mmcv any build will do, since nothing here
#: calls its compiled operators. Those that begin with onedl are maintained forks.
SUPPORTED = (
    {"torch": ">=2.6"},
    {"mmengine": ">=0.10.4,<1", "onedl-mmengine": ">=0.10.8,<1"},
    {"mmcv": ">=2.0,<2.2", "mmcv-lite": ">=2.0,<2.2", "onedl-mmcv": ">=2.3,<2.4"},
    {"mmagic": ">=1.2,<1.3"},
)

#: What mmagic 1.2 imports though no translation model uses it, and the releases that it can import.
#: Where one of a group is missing or of another release, mmagic gets a stand-in for all of it.
UNUSED = (
    {"diffusers": ">=0.24,<0.25", "transformers": ">=4.36,<4.47", "huggingface_hub": "<0.26"},
    {"controlnet_aux": "", "mediapipe": "<0.10.22"},
    {"albumentations": "<2.1"},
    {"einops": ""},
    {"lpips": ""},
    {"pandas": ""},
    {"resize_right": ""},
    {"safetensors": ""},
)
