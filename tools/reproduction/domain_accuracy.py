"""Top-1 accuracy in each of several color spaces at once (section 6.2.3)."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmagic.registry import METRICS
from mmengine.evaluator import BaseMetric


@METRICS.register_module()
class DomainAccuracy(BaseMetric):
    """Percentage of the images whose class is found: ``{domain}/top1`` for every domain.

    A sample's domain is the name of the folder that holds its split, as
    :class:`ColorizedSetWriter` lays them out: ``<domain>/<split>/<class>/<image>``.
    """

    default_prefix = ""  # No prefix, and no warning about it.

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Compare the labels of a batch."""
        for sample in data_samples:
            domain = Path(sample["img_path"]).parts[-4]
            found = sample["pred_label"]["label"].item() == sample["gt_label"]["label"].item()
            self.results.append((domain, found))

    def compute_metrics(self, results: list) -> dict:
        """Percentage by domain."""
        domains = defaultdict(list)
        for domain, found in results:
            domains[domain].append(found)
        return {f"{name}/top1": 100 * sum(hits) / len(hits) for name, hits in domains.items()}
