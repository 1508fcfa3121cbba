"""Scores of every output of a colorizer, projected as well, and of the grey input itself."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from mmagic.registry import METRICS, MODELS
from mmagic.structures import DataSample
from mmengine.evaluator import BaseMetric
from torch import Tensor, nn
from torch.utils.data import DataLoader

from spynco_mm.models import ExactConsistency

from . import functional

DATA_RANGE = 255
PSNR_CAP = 100.0
#: Distances to the real image in any domain, and to the real colours in RGB.
SCORES = ("MSE", "PSNR", "SSIM")
#: One more of those, on request: the scale that the paper's MSE seems to have.
UINT8_SCORE = "MSE_uint8"
COLOR_SCORES = ("CIEDE2000", "concordance", "colorfulness", "colorfulness_error", "luma_error")
#: G_1 after the projection that the colorizer applies by default.
PROJECTED = "G1_projected"


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
    output pyramid has ``gray`` and ``G1``. ``G1_projected`` is G_1(I) projected by
    :class:`~spynco_mm.models.ExactConsistency` onto the images whose grey is I, within range, as
    :class:`~spynco_mm.apis.Colorizer` does. Each score is the mean over the images:

    - ``MSE`` on 0 to 255, mean over pixels and channels;
    - ``PSNR`` in dB, per image and capped at 100 dB. Data sets do hold images without colour:
      their grey input is identical to them, and one infinity would be the mean of all;
    - ``SSIM`` as a fraction, mean over channels, as scikit-image computes it;
    - ``MSE_uint8``, if asked for: see :func:`functional.mse_uint8`;
    - ``CIEDE2000``, mean over pixels, as scikit-image computes it;
    - ``concordance``, of the chroma with the real one, see :func:`functional.chroma_concordance`:
      0 for grey, 1 for the real colours. It is what a best checkpoint is chosen by;
    - ``colorfulness`` after Hasler and Süsstrunk, and ``colorfulness_error``, its absolute
      difference to the real image's; for the grey input that is the real colourfulness itself;
    - ``luma_error``, |H_t(O) - I| on 0 to 255, mean over pixels.

    Images that are not RGB have those scores only, and are not projected. The colours are
    computed in single precision, which changes the fifth digit at most.

    Outputs are clamped to [0, 255] and not rounded. Works in mmengine's ``ValLoop`` as in mmagic's
    ``MultiValLoop``, and counts every image once when processes do not divide the data set.

    Args:
        fake_key: Name of the final output in a sample; ``{fake_key}_pyramid`` is that of all
            outputs, where the model has a pyramid.
        gt_key: Name of the real colour image.
        gray_key: Name of the grey input.
        handcrafted_translation: Config of H_t, for the projection and the luma error.
        window: ``'uniform'``, scikit-image's default for SSIM, or ``'gaussian'``.
        uint8_mse: Whether to add ``MSE_uint8``, for comparisons with the paper's numbers.
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
        handcrafted_translation: dict = dict(type="HandcraftedTranslation"),
        window: str = "uniform",
        uint8_mse: bool = False,
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
        self.translation = MODELS.build(handcrafted_translation)
        self.project = ExactConsistency(self.translation, out_of_range="compress")
        self.window = window
        self.scores = (*SCORES, UINT8_SCORE) if uint8_mse else SCORES
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
            gray_weights=[round(w, 6) for w in self.translation.weight.flatten().tolist()],
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
            if real.shape[1] == self.translation.in_channels == 3:
                rows.append(self._projected(rows[1], gray))
            table = torch.stack(
                [self._score(row, real) for row in rows], dim=1
            )  # [n, rows, scores]
            if len(rows) > 1 + outputs.shape[1]:
                table = torch.cat([table, self._score_colors(rows, gray, real)], dim=2)
            for index, score in zip(indices, table.tolist()):
                sample = data_samples[index]
                photo = self.per_photograph and str(sample.get("photo") or sample["img_path"])
                scores[index] = photo, score
        # One entry per image and in order: so mmengine can drop the repeats that a distributed
        # sampler adds.
        self.results.extend(scores)

    def _score(self, images: Tensor, real: Tensor) -> Tensor:
        """n×scores: MSE, PSNR, SSIM of n images, and MSE_uint8 if asked for."""
        scores = [
            functional.mse(images, real),
            functional.psnr(images, real, DATA_RANGE).clamp(max=PSNR_CAP),
            functional.ssim(images, real, DATA_RANGE, self.window),
        ]
        if UINT8_SCORE in self.scores:
            scores.append(functional.mse_uint8(images, real))
        return torch.stack(scores, dim=1)

    def _projected(self, images: Tensor, gray: Tensor) -> Tensor:
        """BGR images (n×3×H×W, 0 to 255), projected onto those whose grey is ``gray``."""
        half = DATA_RANGE / 2
        self.project.to(images.device)
        projected = self.project(images.flip(1) / half - 1, gray / half - 1)
        return (projected.flip(1) + 1) * half

    def _score_colors(self, rows: Sequence[Tensor], gray: Tensor, real: Tensor) -> Tensor:
        """n×rows×5: :data:`COLOR_SCORES` of n BGR images in each row."""
        luma = self.translation(gray)
        real = real.flip(1).float()
        real_lab, real_colorfulness = functional.rgb_to_lab(real), functional.colorfulness(real)
        table = []
        for row in rows:
            rgb = row.flip(1)
            luma_error = (self.translation(rgb) - luma).abs().flatten(1).mean(1)
            rgb = rgb.float()
            lab, colorfulness = functional.rgb_to_lab(rgb), functional.colorfulness(rgb)
            scores = [
                functional.ciede2000(lab, real_lab),
                functional.chroma_concordance(lab, real_lab),
                colorfulness,
                (colorfulness - real_colorfulness).abs(),
                luma_error,
            ]
            table.append(torch.stack([score.double() for score in scores], dim=1))
        return torch.stack(table, dim=1)

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

    def _mean(self, results: list) -> dict[str, float]:
        means = torch.tensor(results, dtype=torch.float64).mean(dim=0).tolist()
        colored = len(means[0]) > len(self.scores)
        names = ["gray", *(f"G{i}" for i in range(1, len(means) - colored))]
        return {
            f"{name}/{score}": value
            for name, row in zip([*names, PROJECTED], means)
            for score, value in zip([*self.scores, *COLOR_SCORES], row)
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
