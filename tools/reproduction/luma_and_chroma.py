"""Where the error of the colorizers of docs/results.md lies: in brightness or in colour?

    python tools/reproduction/luma_and_chroma.py data/photographs 60 0 1   (folder, epochs, seeds)

Reads the runs that tools/reproduce.py left, and prints for G_1 of each model: its MSE, the parts of
it in luma and in chroma, and its scores once its luma is replaced by that of the grey input, which
is what exact consistency does.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from mmengine.dataset import pseudo_collate

from reproduction.colorization import CURVES, load_model
from reproduction.results import LABELS
from reproduction.study import Study, build_dataset
from spynco_mm.evaluation import mse, read_images, ssim
from spynco_mm.evaluation.tables import markdown_table
from spynco_mm.models import HandcraftedTranslation

h_t = HandcraftedTranslation().double()


def luma(images: torch.Tensor) -> torch.Tensor:
    """N×1×H×W of N×3×H×W images in BGR."""
    return h_t(images.flip(1))


def split_error(study: Study, variant: str, seed: int) -> list:
    """MSE, its luma and chroma part, and MSE and SSIM with the grey input's luma."""
    run = study.run(variant, seed)
    dataset = build_dataset(run.cfg.val_dataloader.dataset)
    with torch.no_grad():
        batch = pseudo_collate([dataset[i] for i in range(len(dataset))])
        images = [read_images(s) for s in load_model(run, run.epochs[-1]).val_step(batch)]
    gray, output, real = (
        torch.stack([parts[i][0] if i == 1 else parts[i] for parts in images]).double().cpu()
        for i in range(3)
    )
    replaced = (output - luma(output) + gray).clamp(0, 255)
    return [
        mse(output, real).mean(),
        mse(luma(output), luma(real)).mean(),
        mse(output - luma(output), real - luma(real)).mean(),
        mse(replaced, real).mean(),
        100 * ssim(replaced, real).mean(),
    ]


def main(data: str, epochs: str, *seeds: str) -> None:
    study = Study(data, epochs=int(epochs), seeds=[int(seed) for seed in seeds])
    rows = [["G_1 of", "MSE", "luma", "chroma", "MSE, grey's luma", "SSIM (%), grey's luma"]]
    for variant in CURVES:
        scores = torch.tensor([split_error(study, variant, seed) for seed in study.seeds])
        mean = scores.mean(dim=0).tolist()
        rows.append([LABELS[variant], *(f"{x:.0f}" for x in mean[:4]), f"{mean[4]:.1f}"])
    print(markdown_table(rows))


if __name__ == "__main__":
    main(*sys.argv[1:])
