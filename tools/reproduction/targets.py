"""One call per table or figure of the paper."""

from collections.abc import Sequence
from importlib.util import find_spec

from . import classification
from .colorization import CURVES, ROWS, ablation, averaged_epochs, figure5, figure6
from .runs import train
from .study import Study

TARGETS = ("table1", "table2", "table3", "fig5", "fig6", "fig7")
NEEDS = {**ROWS, "fig5": ("spynco",), "fig6": CURVES, "table3": ("spynco",), "fig7": ("spynco",)}


def reproduce(study: Study, targets: Sequence[str]) -> str:
    """Train what is missing and write the results.

    Args:
        study: The data set and size.
        targets: Some of :data:`TARGETS`.

    Returns:
        The results as Markdown; the files lie in ``study.folder``.

    Raises:
        ValueError: Something in the way of the trainings, before any of them.
        ChildProcessError: A training failed.
    """
    if "fig7" in targets and find_spec("pycirclize") is None:
        raise ValueError("Figure 7 is drawn by pycirclize; pip install pycirclize pandas.")
    classify = [target for target in targets if target in ("table3", "fig7")]
    if classify:
        classification.check(study)
    if set(targets) & set(ROWS):
        averaged_epochs(study, study.run("spynco", study.seeds[0]))
    variants = dict.fromkeys(variant for target in targets for variant in NEEDS[target])
    train(study.runs(list(variants)), study.jobs)
    runs = {}
    for seed in study.seeds if classify else ():
        colorizer = study.run("spynco", seed)
        folders = classification.write_sets(study, colorizer, seed)
        runs[seed] = classification.classifiers(study, folders, seed)
    train([run for group in runs.values() for run in group.values()], study.jobs)
    texts = []
    for target in targets:
        if target in classify:
            texts.append(classification.cross_domain(study, target, runs))
        elif target in ROWS:
            texts.append(ablation(study, target))
        else:
            texts.append({"fig5": figure5, "fig6": figure6}[target](study))
    return "\n".join(texts)
