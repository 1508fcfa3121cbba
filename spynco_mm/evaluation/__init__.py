from .colorization_metric import ColorizationMetric, read_images
from .functional import mse, psnr, ssim
from .tables import format_table, markdown_table, results_dict, save_results

__all__ = [
    "ColorizationMetric",
    "format_table",
    "markdown_table",
    "mse",
    "psnr",
    "read_images",
    "results_dict",
    "save_results",
    "ssim",
]
