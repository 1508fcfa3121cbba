from .checkpoint import CheckpointError, parse_config, read_checkpoint
from .colorizer import Colorizer
from .pictures import Picture, encode_picture, read_picture
from .tiled import tiled_pyramid

__all__ = [
    "CheckpointError",
    "Colorizer",
    "Picture",
    "encode_picture",
    "parse_config",
    "read_checkpoint",
    "read_picture",
    "tiled_pyramid",
]
