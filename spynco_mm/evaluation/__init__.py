from .colorization_metric import ColorizationMetric, read_images
from .colorized_set import ColorizedSetWriter
from .domain_accuracy import DomainAccuracy
from .functional import mse, psnr, ssim
from .tables import format_table, results_dict, save_results

__all__ = [
    "ColorizationMetric",
    "ColorizedSetWriter",
    "DomainAccuracy",
    "format_table",
    "mse",
    "psnr",
    "read_images",
    "results_dict",
    "save_results",
    "ssim",
]
