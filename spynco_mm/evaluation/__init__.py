from .colorization_metric import ColorizationMetric, read_images
from .functional import (
    chroma_concordance,
    ciede2000,
    colorfulness,
    mse,
    mse_uint8,
    psnr,
    rgb_to_lab,
    ssim,
)
from .tables import format_table, markdown_table, results_dict, save_results

__all__ = [
    "ColorizationMetric",
    "chroma_concordance",
    "ciede2000",
    "colorfulness",
    "format_table",
    "markdown_table",
    "mse",
    "mse_uint8",
    "psnr",
    "read_images",
    "results_dict",
    "rgb_to_lab",
    "save_results",
    "ssim",
]
