"""Measure the cost of training and inference of SpyncoGan, Col-Cycle and mmagic's CycleGAN.

python tools/benchmark.py
python tools/benchmark.py --models spynco cyclegan --sizes 32 128 --batches 1 16 --rounds 3
python tools/benchmark.py --device cuda --precision bfloat16
python tools/benchmark.py --device cuda --batches 32 --sizes 32 \
    --models spynco spynco+compiled cyclegan cyclegan+compiled

Prints a table, and writes it as benchmark.md, benchmark.json and benchmark.png. The models take
turns in processes of their own, so that the ratios hold on a noisy machine as well.
"""

if __name__ == "__main__":  # before the imports below, which take seconds
    import early

    early.start()

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import c_library
import torch

import benchmark  # the package beside this script, which Python prefers to a module
from spynco_mm.apis import Colorizer
from spynco_mm.engine import launch
from spynco_mm.utils.console import one_sentence_errors
from spynco_mm.utils.files import check_writable, write_atomically


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return number


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--models",
        nargs="+",
        choices=[
            *benchmark.CONTENDERS,
            *(f"{n}{benchmark.COMPILED}" for n in benchmark.CONTENDERS),
        ],
        metavar="MODEL",
        default=["spynco", "spynco_naive", "colcycle", "cyclegan"],
        help=f"out of {', '.join(benchmark.CONTENDERS)}, each also with '{benchmark.COMPILED}' at "
        "its end; ratios are to the first",
    )
    parser.add_argument("--sizes", nargs="+", type=positive, default=[32, 128], help="pixels")
    parser.add_argument("--batches", nargs="+", type=positive, default=[1])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument(
        "--precision", choices=["float32", "bfloat16", "float16"], default="float32"
    )
    launch.add_compile_argument(parser, modes=launch.COMPILE_MODES)
    parser.add_argument(
        "--cuda-graph",
        choices=["on", "off"],
        default="on",
        help="on a GPU, capture the training step of the models that allow it",
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=0,
        help="processes of each data loader; the pictures are in memory, so there are none",
    )
    parser.add_argument(
        "--threads", type=positive, default=torch.get_num_threads(), help="of the CPU"
    )
    parser.add_argument("--rounds", type=positive, default=5, help="turns of each model")
    parser.add_argument(
        "--turn-seconds", type=float, default=1.0, help="about the length of a turn"
    )
    parser.add_argument(
        "--warmup", type=positive, default=6, help="iterations before the first turn"
    )
    parser.add_argument(
        "--colorize", metavar="CHECKPOINT", help="also time tools/colorize.py with this model"
    )
    parser.add_argument("--out", default="work_dirs/benchmark", help="folder for the results")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    with one_sentence_errors():
        if args.device == "cuda" and not torch.cuda.is_available():
            raise ValueError("--device cuda needs a GPU, and torch sees none; use --device cpu.")
        if args.precision != "float32" and args.device == "cpu":
            raise ValueError(
                f"--precision {args.precision} needs --device cuda: mixed precision is for GPUs."
            )
        if args.compile not in (None, launch.COMPILE_MODES[0]) and args.device == "cpu":
            raise ValueError(
                f"--compile {args.compile} needs --device cuda: it records CUDA graphs."
            )
        out = Path(args.out)
        check_writable(out / "benchmark.json")
        if args.colorize:
            Colorizer(args.colorize, device="cpu")  # For its errors, before the measurements.
        c_library.apply_to_new_processes()  # as tools/train.py trains
        cells = []
        for size in args.sizes:
            for batch in args.batches:
                cell = benchmark.Cell(
                    size,
                    batch,
                    args.device,
                    args.precision,
                    args.threads,
                    args.compile,
                    args.workers,
                    args.cuda_graph,
                )
                models = benchmark.measure(
                    args.models,
                    cell,
                    args.rounds,
                    args.turn_seconds,
                    args.warmup,
                    progress=lambda text, cell=cell: print(f"{cell}: {text}", file=sys.stderr),
                )
                cells.append(dict(asdict(cell), models=models))
        results = dict(machine=benchmark.describe_machine(cell), cells=cells)
        if args.colorize:
            results["colorize"] = benchmark.measure_colorize(args.colorize, cell, args.rounds)
        table = benchmark.benchmark_report(results)
        print(table)
        write_atomically(out / "benchmark.json", json.dumps(results, indent=2).encode())
        write_atomically(out / "benchmark.md", table.encode())
        write_atomically(out / "benchmark.png", benchmark.benchmark_chart(cells, benchmark.PARTS))
        print(f"Also in {out}/benchmark.md, .json and .png")


if __name__ == "__main__":
    main()
