"""MSE, PSNR and SSIM of every output of a colorizer, and of the grey input itself."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from mmagic.registry import METRICS
from mmagic.structures import DataSample
from mmengine.evaluator import BaseMetric
from torch import Tensor, nn
from torch.utils.data import DataLoader

from . import functional

DATA_RANGE = 255
PSNR_CAP = 100.0
SCORES = ("MSE", "PSNR", "SSIM")


def read_images(
    sample: dict | DataSample,
    fake_key: str = "fake_color",
    gt_key: str = "img_color",
    gray_key: str = "img_gray",
) -> tuple[Tensor, Tensor, Tensor]:
    """The images of one sample, as the ``val_step`` of a translation model returns it.

    A model with an output pyramid gives it as ``{fake_key}_pyramid`` (N×C×H×W, final output
    first); any other model, such as mmagic's CycleGAN, gives ``fake_key`` (C×H×W) only.

    Args:
        sample: With ``img_color``, ``img_gray`` and ``fake_color``, 0 to 255, BGR.
        fake_key: Name of the final output.
        gt_key: Name of the real colour image.
        gray_key: Name of the grey input, of C channels or of one.

    Returns:
        The grey input C×H×W, the outputs N×C×H×W (G_1 first) and the real image C×H×W.

    Raises:
        KeyError: The sample lacks one of the images.
        ValueError: The images differ in size.
    """
    pyramid_key = f"{fake_key}_pyramid"
    missing = [key for key in (gray_key, gt_key) if key not in sample]
    if fake_key not in sample and pyramid_key not in sample:
        missing.append(fake_key)
    if missing:
        raise KeyError(
            f"A sample to evaluate lacks {', '.join(missing)}, it has {', '.join(sample.keys())}: "
            f"let the model return '{fake_key}' and the data set's PackInputs keep '{gray_key}' "
            f"and '{gt_key}' as data_keys."
        )
    gray, real = sample.get(gray_key), sample.get(gt_key)
    outputs = sample.get(pyramid_key)
    if outputs is None:
        outputs = sample.get(fake_key)[None]
    if outputs.shape[1:] != real.shape or gray.shape[1:] != real.shape[1:]:
        raise ValueError(
            f"The images of a sample differ in shape: {gray_key} {tuple(gray.shape)}, outputs "
            f"{tuple(outputs.shape)}, {gt_key} {tuple(real.shape)}."
        )
    return gray.expand_as(real), outputs, real


@METRICS.register_module()
class ColorizationMetric(BaseMetric):
    """Distances to the real colours (section 5.3): ``gray/MSE``, ``G1/MSE``, ..., ``G3/SSIM``.

    The row ``gray`` is the grey input itself, the row ``Gi`` the output G_i(I); a model without an
    output pyramid has ``gray`` and ``G1``. Each score is the mean over the images:

    - ``MSE`` on 0 to 255, mean over pixels and channels;
    - ``PSNR`` in dB, per image and capped at 100 dB. Data sets do hold images without colour:
      their grey input is identical to them, and one infinity would be the mean of all;
    - ``SSIM`` as a fraction, mean over channels, as scikit-image computes it.

    Outputs are clamped to [0, 255] and not rounded. Works in mmengine's ``ValLoop`` as in mmagic's
    ``MultiValLoop``, and counts every image once when processes do not divide the data set.

    Args:
        fake_key: Name of the final output in a sample; ``{fake_key}_pyramid`` is that of all
            outputs, where the model has a pyramid.
        gt_key: Name of the real colour image.
        gray_key: Name of the grey input.
        window: ``'uniform'``, scikit-image's default for SSIM, or ``'gaussian'``.
        per_photograph: Keep the mean scores of each photograph in ``photographs``, for intervals:
            crops of one photograph are not independent. A sample's ``photo`` names it, or else its
            ``img_path``.
        collect_device: ``'cpu'`` or ``'gpu'``, where processes exchange their scores.
        prefix: Put before the names, as ``{prefix}/G1/MSE``.
    """

    # What mmagic's evaluator asks every metric for. Its own base class would say the same, and load
    # all of mmagic's metrics and data sets whenever this package is imported.
    SAMPLER_MODE = "normal"
    sample_model = "orig"
    # Empty rather than None, about which mmengine would warn.
    default_prefix = ""

    def __init__(
        self,
        fake_key: str = "fake_color",
        gt_key: str = "img_color",
        gray_key: str = "img_gray",
        window: str = "uniform",
        per_photograph: bool = False,
        collect_device: str = "cpu",
        prefix: str | None = None,
    ) -> None:
        if window not in functional.WINDOW_SIZES:
            raise ValueError(
                f"ColorizationMetric: window must be one of "
                f"{', '.join(functional.WINDOW_SIZES)}, got '{window}'."
            )
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.fake_key = fake_key
        self.gt_key = gt_key
        self.gray_key = gray_key
        self.window = window
        self.per_photograph = per_photograph
        self.photographs: dict[str, dict[str, float]] = {}
        self.num_images = 0

    @property
    def image_keys(self) -> dict[str, str]:
        """The names of the images in a sample, as :func:`read_images` takes them."""
        return dict(fake_key=self.fake_key, gt_key=self.gt_key, gray_key=self.gray_key)

    @property
    def settings(self) -> dict:
        """What the last results were computed with; ``num_images`` is known to rank 0."""
        settings = dict(
            data_range=DATA_RANGE,
            channels="mean",
            outputs=f"clamped to [0, {DATA_RANGE}], not rounded",
            psnr_cap_db=PSNR_CAP,
            ssim_window=self.window,
            ssim_window_size=functional.WINDOW_SIZES[self.window],
            ssim_sample_covariance=self.window == "uniform",
        )
        if self.window == "gaussian":
            settings["ssim_sigma"] = functional.GAUSSIAN_SIGMA
        return {**settings, "num_images": self.num_images}

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Score one batch; images of one size are scored together.

        Args:
            data_batch: Not used.
            data_samples: Samples as :func:`read_images` takes them.
        """
        images = [read_images(sample, **self.image_keys) for sample in data_samples]
        groups = defaultdict(list)
        for index, (_, outputs, _) in enumerate(images):
            groups[outputs.shape].append(index)
        scores: list[Any] = [None] * len(images)
        for indices in groups.values():
            # The images may be bytes on the CPU while the outputs are floats on the GPU.
            device = images[indices[0]][1].device
            gray, outputs, real = (
                torch.stack([images[i][part].to(device) for i in indices]).double()
                for part in range(3)
            )
            rows = [gray, *outputs.clamp(0, DATA_RANGE).unbind(1)]
            table = torch.stack([self._score(row, real) for row in rows], dim=1)  # [n, rows, 3]
            for index, score in zip(indices, table.tolist()):
                sample = data_samples[index]
                photo = self.per_photograph and str(sample.get("photo") or sample["img_path"])
                scores[index] = photo, score
        # One entry per image and in order: so mmengine can drop the repeats that a distributed
        # sampler adds.
        self.results.extend(scores)

    def _score(self, images: Tensor, real: Tensor) -> Tensor:
        """n×3: MSE, PSNR, SSIM of n images."""
        return torch.stack(
            [
                functional.mse(images, real),
                functional.psnr(images, real, DATA_RANGE).clamp(max=PSNR_CAP),
                functional.ssim(images, real, DATA_RANGE, self.window),
            ],
            dim=1,
        )

    def compute_metrics(self, results: list) -> dict:
        """Mean over the images.

        Args:
            results: Per image its photograph and the scores of every row.

        Returns:
            Flat names to numbers.

        Raises:
            ValueError: No image was scored.
        """
        if not results:
            raise ValueError("ColorizationMetric: there is no image to evaluate.")
        self.num_images = len(results)
        photographs = defaultdict(list)
        if self.per_photograph:
            for photo, scores in results:
                photographs[photo].append(scores)
        self.photographs = {photo: self._mean(rows) for photo, rows in photographs.items()}
        return self._mean([scores for _, scores in results])

    @staticmethod
    def _mean(results: list) -> dict[str, float]:
        means = torch.tensor(results, dtype=torch.float64).mean(dim=0).tolist()
        names = ["gray", *(f"G{i}" for i in range(1, len(means)))]
        return {
            f"{name}/{score}": value
            for name, row in zip(names, means)
            for score, value in zip(SCORES, row)
        }

    def evaluate(self, size: int | None = None) -> dict:
        """Collect the scores of all processes and average them.

        Args:
            size: Images in the data set, which mmengine's evaluator gives. mmagic's gives none and
                has called ``prepare`` instead.

        Returns:
            Flat names, with the prefix, to numbers; the same on every process.
        """
        if size is not None:
            self.size = size
        return super().evaluate(self.size)

    def prepare(self, module: nn.Module, dataloader: DataLoader) -> None:
        """Note how many images there are to be, for mmagic's evaluator."""
        self.size = len(dataloader.dataset)

    def get_metric_sampler(
        self, model: nn.Module, dataloader: DataLoader, metrics: Sequence[BaseMetric]
    ) -> DataLoader:
        """The images of mmagic's evaluator: those of the data loader."""
        return dataloader
