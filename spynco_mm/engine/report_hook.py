"""After each evaluation: a table in the log, ``results.json`` and ``pyramid.png``."""

from collections.abc import Sequence
from pathlib import Path

from mmagic.registry import HOOKS
from mmagic.visualization import VisBackend
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, Runner
from mmengine.visualization import LocalVisBackend

from spynco_mm.evaluation import (
    ColorizationMetric,
    format_table,
    read_images,
    results_dict,
    save_results,
)
from spynco_mm.visualization import pyramid_grid, save_png


def metrics_of(loop: BaseLoop) -> list:
    """The metrics of a loop that validates or tests."""
    # mmagic's loops have several evaluators, and evaluators may have no metric.
    evaluators = loop.evaluators if hasattr(loop, "evaluators") else [loop.evaluator]
    return [metric for evaluator in evaluators for metric in evaluator.metrics or []]


@HOOKS.register_module()
class ColorizationReportHook(Hook):
    """Report what :class:`ColorizationMetric` measured, in numbers and in pictures.

    After each validation and each test, on rank 0:

    - the log gets a table with one row per output, and the grey input's;
    - ``<work_dir>/results.json`` gets the rows ``gray``, ``G1``, ... and the ``settings`` they
      were computed with;
    - ``<work_dir>/pyramid.png`` gets the paper's figure 5 for some images, spread evenly over those
      that rank 0 evaluates and always the same ones; during training also
      ``<work_dir>/vis/epoch_<n>.png``, or ``iter_<n>.png`` where training is by iteration;
    - backends such as TensorBoard get the grid as ``pyramid``. Those that would only write one more
      PNG do not.

    Works with every model that the metric can score, such as mmagic's CycleGAN, and beside other
    metrics, such as mmagic's ``TransFID`` in mmagic's ``MultiValLoop``.

    Args:
        num_images: Rows of the grid.
    """

    def __init__(self, num_images: int = 6) -> None:
        if num_images < 1:
            raise ValueError(
                f"ColorizationReportHook: num_images must be at least 1, got {num_images}."
            )
        self.num_images = num_images

    # ------------------------------------------------------------------ what to report

    @staticmethod
    def _metric(loop: BaseLoop) -> ColorizationMetric | None:
        """The one metric of a loop that knows its settings; None if others measure alone."""
        metrics = [metric for metric in metrics_of(loop) if hasattr(metric, "settings")]
        if len(metrics) > 1:
            raise ValueError(
                "ColorizationReportHook needs one ColorizationMetric in the evaluator of "
                f"{type(loop).__name__}, found {len(metrics)}; leave out the others."
            )
        return metrics[0] if metrics else None

    @staticmethod
    def _check_loop(loop: BaseLoop) -> None:
        """Refuse mmagic's own metrics in mmengine's loops, which they fail in at the first end."""
        if hasattr(loop, "evaluators"):
            return
        for metric in metrics_of(loop):
            # What they prepare is prepared by mmagic's loops only. Ours does without.
            if hasattr(metric, "prepare") and not hasattr(metric, "settings"):
                kind = "val" if "Val" in type(loop).__name__ else "test"
                raise ValueError(
                    f"{type(metric).__name__} is a metric of mmagic's and works in its loops only, "
                    f"not in {type(loop).__name__}; set {kind}_cfg="
                    f"dict(type='Multi{kind.capitalize()}Loop')."
                )

    def before_run(self, runner: Runner) -> None:
        """Fail before the training rather than after its first epochs."""
        for loop in (runner._val_loop, runner._test_loop):
            if isinstance(loop, BaseLoop):
                self._check_loop(loop)
                if self._metric(loop) is None:
                    runner.logger.warning(
                        f"ColorizationReportHook reports nothing of {type(loop).__name__}: its "
                        "evaluator has no ColorizationMetric."
                    )

    # ------------------------------------------------------------------ some of the images

    def _start(self, loop: BaseLoop) -> None:
        """Choose which of the samples to come are shown."""
        loaders = loop.dataloaders if hasattr(loop, "dataloaders") else [loop.dataloader]
        total = sum(len(loader.sampler) for loader in loaders)  # those of this process
        count = min(self.num_images, total)
        self._wanted = {i * total // count for i in range(count)}
        self._seen = 0
        self._samples = []

    @master_only
    def _collect(self, outputs: Sequence) -> None:
        for index, sample in enumerate(outputs, start=self._seen):
            if index in self._wanted:
                self._samples.append(sample.cpu())
        self._seen += len(outputs)

    def before_val_epoch(self, runner: Runner) -> None:
        """Choose images."""
        self._start(runner.val_loop)

    def before_test_epoch(self, runner: Runner) -> None:
        """Choose images."""
        self._start(runner.test_loop)

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        """Keep the chosen ones of a batch."""
        self._collect(outputs)

    def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        """Keep the chosen ones of a batch."""
        self._collect(outputs)

    # ------------------------------------------------------------------ the report

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Report a validation."""
        self._report(runner, "val", self._metric(runner.val_loop), metrics)

    def after_test_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Report a test."""
        self._report(runner, "test", self._metric(runner.test_loop), metrics)

    @master_only
    def _report(
        self, runner: Runner, split: str, metric: ColorizationMetric | None, metrics: dict
    ) -> None:
        if metric is None:
            return
        work_dir = Path(runner.work_dir)
        settings = {**metric.settings, "split": split}
        if runner.cfg.filename:
            settings["config"] = Path(runner.cfg.filename).name
        # Asking a runner that only tests for its epoch would make it build the training.
        training = isinstance(runner._train_loop, BaseLoop)
        if training:
            settings.update(epoch=runner.epoch, iter=runner.iter)
        elif runner._load_from:
            settings["checkpoint"] = Path(runner._load_from).name
        results = {**results_dict(metrics, metric.prefix), "settings": settings}
        runner.logger.info(f"Colorization, {split}:\n{format_table(results)}")
        save_results(results, work_dir / "results.json")

        grid = pyramid_grid([read_images(s, **metric.image_keys) for s in self._samples])
        self._samples = []
        save_png(grid, work_dir / "pyramid.png")
        step = 0
        if training:
            by_epoch = isinstance(runner.train_loop, EpochBasedTrainLoop)
            step = runner.epoch if by_epoch else runner.iter
            if split == "val":
                unit = "epoch" if by_epoch else "iter"
                save_png(grid, work_dir / "vis" / f"{unit}_{step}.png")
        # Not by visualizer.add_image: it would hand the picture to the local backends too.
        for backend in runner.visualizer._vis_backends.values():
            if not isinstance(backend, (LocalVisBackend, VisBackend)):
                backend.add_image("pyramid", grid, step)
