"""Tables 1 and 2, figures 5 and 6: how near the colours come."""

import numpy as np
import torch
from mmagic.registry import MODELS
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope
from mmengine.runner import load_checkpoint
from scipy.stats import bootstrap

from spynco_mm.evaluation.colorization_metric import PROJECTED, UINT8_SCORE
from spynco_mm.evaluation.tables import COLUMNS, UINT8_NOTE, markdown_table

from .curves import SCORES, plot_curves
from .epoch_grid import epoch_grid
from .results import (
    LABELS,
    PAPER_SCORES,
    TABLE1,
    TABLE2,
    average_over_epochs,
    cell,
    mean_and_spread,
    save,
)
from .runs import Run, versions
from .study import Study, build_dataset

ROWS = {
    "table1": ("l1", "spynco", "exact_l1", "exact"),
    "table2": ("l1_no_contours", "l1", "no_contours", "spynco", "exact"),
}
#: The scores of figure 6's table.
SHOWN = ("MSE", UINT8_SCORE, "SSIM", "CIEDE2000", "concordance", "colorfulness")
CURVES = ("spynco", "exact", "colcycle", "cyclegan")


def describe(study: Study, runs: list[Run]) -> dict:
    """What a result was made with."""
    return dict(
        data=study.data,
        preset=study.preset,
        images=dict(train=study._counts["train"], test=study._counts["val"]),
        ssim="scikit-image's default: 7x7 uniform window, mean over channels",
        versions=versions(),
        runs=[{**run.identity, "folder": str(run.folder)} for run in runs],
    )


def averaged_epochs(study: Study, run: Run) -> list[int]:
    """The evaluated epochs that Tables 1 and 2 average.

    Raises:
        ValueError: There is none.
    """
    until = study.table_epochs(run.epochs[-1])
    epochs = [epoch for epoch in run.epochs if epoch <= until]
    if not epochs:
        raise ValueError(
            f"Tables 1 and 2 average the evaluations up to epoch {until}, but the first is after "
            f"epoch {run.epochs[0]}; lower train_cfg.val_interval or train longer."
        )
    return epochs


def ablation(study: Study, target: str) -> str:
    """Table 1 (outputs) or 2 (contours loss): G_1 averaged over the evaluations (section 6.2.1)."""
    variants = ROWS[target]
    published = {"table1": TABLE1, "table2": TABLE2}[target].get(study.kind, {})
    runs = {variant: study.runs([variant]) for variant in variants}
    epochs = averaged_epochs(study, runs["spynco"][0])
    until = epochs[-1]
    scores = {
        variant: [average_over_epochs(run.history(), until) for run in runs[variant]]
        for variant in variants
    }
    scores["gray"] = [average_over_epochs(run.history(), until, "gray") for run in runs["spynco"]]
    header = ["loss function", "MSE ↓", "MSE in bytes", "paper's MSE", "SSIM (%) ↑"]
    rows, lines = [], [[*header, "paper's SSIM (%)"]]
    for variant, by_seed in scores.items():
        ours = {name: mean_and_spread([s[name] for s in by_seed]) for name in PAPER_SCORES}
        paper = published.get(variant)
        rows.append(dict(variant=variant, **ours, by_seed=by_seed, paper=paper))
        mse, wrapped, ssim = ours.values()
        their_mse, their_ssim = paper or ("–", "–")
        cells = [cell(mse, 1), cell(wrapped, 1), their_mse, cell(ssim, 1, 100), their_ssim]
        lines.append([LABELS[variant], *cells])
    result = dict(target=target, epochs=epochs, rows=rows)
    result.update(describe(study, [run for group in runs.values() for run in group]))
    text = (
        f"# {target} on {study.data}, preset {study.preset}\n\n{markdown_table(lines)}\n"
        f"G_1 averaged over the evaluations at epochs {', '.join(map(str, epochs))}; "
        f"{len(study.seeds)} seed(s){', mean ± standard deviation' * (len(study.seeds) > 1)}; "
        f"{study._counts['val']} test images; MSE on 0-255. The paper does not say its scale.\n"
        f"\n{UINT8_NOTE}\n"
    )
    save(study.folder, target, result, text)
    return text


def _curve(histories: list[dict[int, dict]], row: str) -> dict:
    epochs = sorted(histories[0])
    return dict(
        x=epochs,
        **{
            score: [
                [history[e]["metrics"][f"{row}/{score}"] for e in epochs] for history in histories
            ]
            for score in SCORES
        },
    )


def at_equal_time(histories: list[dict[int, dict]], clock: str, seconds: float, score: str):
    """A score of G_1 after so many seconds of training, by seed.

    Interpolated linearly between the evaluations around that moment; None where it lies before the
    first one.
    """
    values = []
    for history in histories:
        entries = [history[epoch] for epoch in sorted(history)]
        times = [entry[clock] for entry in entries]
        if seconds < times[0]:
            return None
        values.append(np.interp(seconds, times, [e["metrics"][f"G1/{score}"] for e in entries]))
    return [float(value) for value in values]


def photograph_interval(
    histories: list[dict[int, dict]], others: list[dict[int, dict]], row: str, other: str
) -> dict:
    """How much lower the MSE of one row is than another's, with a 95 % interval over photographs.

    The difference is taken photograph by photograph (mean over seeds, last epoch), and the
    photographs are drawn again 9999 times (BCa bootstrap), since crops of one are not independent.
    """

    def by_photograph(histories, row):
        last = [history[max(history)]["photographs"] for history in histories]
        scores = [[photos[name][f"{row}/MSE"] for photos in last] for name in last[0]]
        return np.mean(scores, axis=1)

    difference = by_photograph(histories, row) - by_photograph(others, other)
    interval = bootstrap((difference,), np.mean, random_state=0).confidence_interval
    return dict(
        photographs=len(difference),
        mean=float(difference.mean()),
        low=float(interval.low),
        high=float(interval.high),
    )


def _row(variant: str, output: str, last: list[dict], **more: dict) -> dict:
    """The scores of an output in the last evaluation of each seed."""
    scores = {s: mean_and_spread([e["metrics"][f"{output}/{s}"] for e in last]) for s in SHOWN}
    return dict(variant=variant, output=output, **scores, **more)


def _label(row: dict) -> str:
    """What a row of figure 6's table is called."""
    name = "SpyncoGan" if row["variant"] == "spynco" else LABELS[row["variant"]]
    if row["output"] == "gray":
        return name
    return f"{name}, {'G_1, projected' if row['output'] == PROJECTED else 'G_' + row['output'][1:]}"


def figure6(study: Study) -> str:
    """MSE and SSIM along the training (section 6.2.2), from the runs' own histories."""
    runs = {variant: study.runs([variant]) for variant in CURVES}
    histories = {variant: [run.history() for run in group] for variant, group in runs.items()}
    outputs = sorted(
        {key.split("/")[0] for key in histories["spynco"][0][study_last(runs)]["metrics"]}
        - {"gray", PROJECTED},
        reverse=True,
    )
    curves = {f"SpyncoGan G_{o[1:]}": _curve(histories["spynco"], o) for o in outputs}
    for variant in CURVES[1:]:
        curves[LABELS[variant]] = _curve(histories[variant], "G1")
    gray = average_over_epochs(histories["spynco"][0], study_last(runs), "gray")

    # Processor time where the runs shared processors, wall-clock where each had its GPU.
    clock = "train_seconds" if torch.cuda.is_available() else "train_cpu_seconds"
    last = {v: [h[max(h)] for h in group] for v, group in histories.items()}
    seconds = min(entry[clock] for group in last.values() for entry in group)
    unit = "s of wall-clock" if clock == "train_seconds" else "s of processor time"
    rows = []
    for variant, group in last.items():
        for output in (o for o in outputs[::-1] if f"{o}/MSE" in group[0]["metrics"]):
            row = _row(variant, output, group, seconds=mean_and_spread([e[clock] for e in group]))
            equal = at_equal_time(histories[variant], clock, seconds, "MSE")
            if output == "G1" and equal:
                row["MSE_at_equal_time"] = mean_and_spread(equal)
            rows.append(row)
        if variant != "exact":  # which is projected already
            rows.append(_row(variant, PROJECTED, group))
    rows.append(_row("gray", "gray", last["spynco"]))
    columns = {score: COLUMNS[score] for score in SHOWN}
    columns.update(MSE_at_equal_time=(f"MSE after {seconds:.0f} s", 1), seconds=("training, s", 0))
    lines = [["", *(title for title, _ in columns.values())]]
    for row in rows:
        cells = [cell(row[x], n) if x in row else "–" for x, (_, n) in columns.items()]
        lines.append([_label(row), *cells])
    # Grey has none, so its error is the colourfulness of the real pictures.
    colorful = last["spynco"][0]["metrics"]["gray/colorfulness_error"]
    text = (
        f"# fig6 on {study.data}, preset {study.preset}\n\nAfter epoch {study_last(runs)}, "
        f"{len(study.seeds)} seed(s), {study._counts['val']} test images:\n\n"
        f"{markdown_table(lines)}\n"
        f"Training time is in {unit}, evaluations not counted. The paper prints its curves without "
        f"numbers. The real pictures' colourfulness is {colorful:.2f}.\n\n{UINT8_NOTE}\n"
    )
    result = dict(target="fig6", curves=curves, gray=gray, clock=clock, rows=rows)
    if "photographs" in last["spynco"][0]:
        pairs = [(v, "G1", "spynco", "gray") for v in CURVES]
        pairs += [(v, "G1", "spynco", "G1") for v in CURVES[1:]]
        result["intervals"], lines = [], [["MSE of G_1, difference to", "mean", "95 % interval"]]
        for variant, row, other, other_row in pairs:
            found = photograph_interval(histories[variant], histories[other], row, other_row)
            result["intervals"].append(dict(variant=variant, to=[other, other_row], **found))
            to = "the grey input" if other_row == "gray" else "SpyncoGan's"
            lines.append(
                [
                    f"{LABELS[variant]}, to {to}",
                    f"{found['mean']:+.1f}",
                    f"{found['low']:+.1f} to {found['high']:+.1f}",
                ]
            )
        text += (
            f"\nPhotograph by photograph ({found['photographs']} of them, bootstrap over "
            f"photographs; below 0 is better):\n\n{markdown_table(lines)}"
        )
    result.update(describe(study, [run for group in runs.values() for run in group]))
    figure = plot_curves(curves, reference=(LABELS["gray"], gray))
    save(study.folder, "fig6", result, text, figure)
    return text


def study_last(runs: dict[str, list[Run]]) -> int:
    """The last epoch of the trainings of a figure."""
    return runs["spynco"][0].epochs[-1]


def load_model(run: Run, epoch: int) -> torch.nn.Module:
    """The model of a run as it was after an epoch."""
    init_default_scope("mmagic")
    model = MODELS.build(run.cfg.model)
    load_checkpoint(model, str(run.checkpoint(epoch)), map_location="cpu")
    return model.to("cuda" if torch.cuda.is_available() else "cpu").eval()


def figure5(study: Study, images: int = 3) -> str:
    """Some test images at every evaluated epoch (section 6.1): G_3, G_2, G_1, grey and real."""
    run = study.run("spynco", study.seeds[0])
    dataset = build_dataset(run.cfg.val_dataloader.dataset)
    chosen = [i * len(dataset) // images for i in range(min(images, len(dataset)))]
    batch = pseudo_collate([dataset[i] for i in chosen])
    samples = {}
    for epoch in run.epochs:
        with torch.no_grad():
            # A copy: the preprocessor changes the samples in place.
            data = dict(batch, data_samples=[s.clone() for s in batch["data_samples"]])
            samples[epoch] = [sample.cpu() for sample in load_model(run, epoch).val_step(data)]
    text = (
        f"# fig5 on {study.data}, preset {study.preset}\n\n![fig5](fig5.png)\n\nTest images "
        f"{', '.join(map(str, chosen))}, from left to right G_3, G_2, G_1, one row per epoch.\n"
    )
    result = dict(target="fig5", shown=chosen, epochs=run.epochs, **describe(study, [run]))
    save(study.folder, "fig5", result, text, epoch_grid(samples))
    return text
