"""Make a table or figure of the paper, from the trainings to the files.

    python tools/reproduce.py fig6 --data demo --jobs 2
    python tools/reproduce.py all --data cifar10 --preset paper --gpus 2 --seeds 0 1 2
    python tools/reproduce.py table1 --data path/to/pictures --epochs 100

Trains what is missing, goes on where it was interrupted, and leaves JSON, Markdown and pictures in
work_dirs/reproduce/<data>_<preset>.
"""

if __name__ == "__main__":  # before the imports below, which take seconds
    import early

    early.start()

import argparse
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import c_library

from reproduction.study import PRESETS, Study
from reproduction.targets import TARGETS, reproduce
from spynco_mm.utils.console import CfgOptions, one_sentence_errors


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("target", choices=[*TARGETS, "all"], help="the table or figure")
    parser.add_argument(
        "--data",
        required=True,
        help="cifar10, ucmerced, cezanne, landscape, demo, or a folder of pictures",
    )
    parser.add_argument(
        "--preset",
        choices=PRESETS,
        default="small",
        help="small (default): 32x32, a quarter of the filters, 20 epochs of 400 pictures; medium: "
        "32x32, an eighth of the filters, 6 epochs of all pictures; paper: as published",
    )
    parser.add_argument("--gpus", type=int, default=1, help="processes per training")
    parser.add_argument("--jobs", type=int, default=1, help="trainings side by side")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="one training for each")
    parser.add_argument("--epochs", type=int, help="length of the trainings")
    parser.add_argument("--classifier-epochs", type=int, help="length of those of classifiers")
    parser.add_argument("--work-dir", default="work_dirs/reproduce", help="folder for everything")
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=CfgOptions,
        default={},
        metavar="KEY=VALUE",
        help="further settings of every training of a colorizer",
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    # As Ctrl-C: ends the trainings too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    c_library.apply_to_new_processes()  # as tools/train.py trains
    with one_sentence_errors("the same command goes on"):
        study = Study(
            data=args.data,
            preset=args.preset,
            gpus=args.gpus,
            jobs=args.jobs,
            seeds=args.seeds,
            epochs=args.epochs,
            classifier_epochs=args.classifier_epochs,
            cfg_options=args.cfg_options,
            work_dir=Path(args.work_dir),
        )
        targets = TARGETS if args.target == "all" else [args.target]
        print(reproduce(study, targets))
        print(f"Written to {study.folder}")


if __name__ == "__main__":
    main()
