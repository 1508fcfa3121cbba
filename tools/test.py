"""Evaluate a checkpoint on the test set of a config: table, results.json and pyramid.png.

python tools/test.py configs/spynco_exact_demo.py work_dirs/spynco_demo/epoch_10.pth
bash tools/dist_test.sh configs/spynco_cifar10.py work_dirs/spynco_cifar10/epoch_100.pth 2
"""

if __name__ == "__main__":  # before the imports below, which take seconds
    import early

    early.start()

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mmengine.runner import Runner

from spynco_mm.engine import launch
from spynco_mm.utils.console import add_run_arguments, one_sentence_errors


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="config file, or spynco_mm::NAME for one of ours")
    parser.add_argument("checkpoint", help="checkpoint, a file or its address")
    parser.add_argument("--work-dir", help="folder for the results")
    add_run_arguments(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    with one_sentence_errors():
        launch.check_checkpoint(args.checkpoint)
        cfg = launch.load_config(args.config, args.work_dir, args.cfg_options, args.launcher)
        launch.check_split(cfg, "test")
        cfg.load_from = args.checkpoint
        Runner.from_cfg(cfg).test()


if __name__ == "__main__":
    main()
