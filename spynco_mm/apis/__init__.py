from spynco_mm.utils.checkpoint import CheckpointError, parse_config, read_checkpoint

from .colorizer import Colorizer
from .confidence import disagreement
from .hints import Hints
from .jobs import Report, colorize_files
from .pictures import Picture, encode_picture, read_picture
from .planning import Job, plan
from .projection import Projection, project_picture
from .tiled import tiled_pyramid
from .video import colorize_video

__all__ = [
    "CheckpointError",
    "Colorizer",
    "Hints",
    "Job",
    "Picture",
    "Projection",
    "Report",
    "colorize_files",
    "colorize_video",
    "disagreement",
    "encode_picture",
    "parse_config",
    "plan",
    "project_picture",
    "read_checkpoint",
    "read_picture",
    "tiled_pyramid",
]
