from spynco_mm.utils.checkpoint import CheckpointError, parse_config, read_checkpoint

from .colorizer import Colorizer
from .jobs import Job, Report, colorize_files, plan
from .pictures import Picture, encode_picture, read_picture
from .tiled import tiled_pyramid

__all__ = [
    "CheckpointError",
    "Colorizer",
    "Job",
    "Picture",
    "Report",
    "colorize_files",
    "encode_picture",
    "parse_config",
    "plan",
    "read_checkpoint",
    "read_picture",
    "tiled_pyramid",
]
