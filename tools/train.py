"""Train a model.

python tools/train.py configs/spynco_demo.py
python tools/train.py configs/spynco_cifar10.py --work-dir work_dirs/a --resume --amp
bash tools/dist_train.sh configs/spynco_cifar10.py 2
"""

if __name__ == "__main__":  # before the imports below, which take seconds
    import c_library
    import early

    early.start()
    c_library.restart(__file__)

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
    parser.add_argument("--work-dir", help="folder for logs, checkpoints and pictures")
    parser.add_argument(
        "--resume",
        nargs="?",
        const="auto",
        metavar="CKPT",
        help="continue from this checkpoint, or from the newest one of the work directory",
    )
    parser.add_argument(
        "--amp",
        nargs="?",
        const="float16",
        choices=["float16", "bfloat16"],
        help="mixed precision, on GPU (default with the flag: float16)",
    )
    launch.add_compile_argument(parser)
    parser.add_argument(
        "--cuda-graph",
        choices=["on", "off"],
        help="capture the training step as a CUDA graph, or not, instead of what the config says "
        "(ours: on)",
    )
    parser.add_argument("--seed", type=int, help="seed of the run, instead of the config's")
    parser.add_argument(
        "--deterministic", action="store_true", help="deterministic kernels, possibly slower"
    )
    add_run_arguments(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    with one_sentence_errors("--resume goes on from the last checkpoint, which is whole"):
        cfg = launch.load_config(args.config, args.work_dir, args.cfg_options, args.launcher)
        launch.check_split(cfg, "train")
        lock = launch.lock_work_dir(cfg)  # noqa: F841  (held until this process ends)
        if args.amp:
            launch.enable_amp(cfg, args.amp)
        launch.enable_compile(cfg, args.compile)
        if args.cuda_graph:
            launch.set_cuda_graph(cfg, args.cuda_graph)
        if args.resume:
            launch.resume_from(cfg, args.resume)
        if args.seed is not None:
            cfg.setdefault("randomness", {})["seed"] = args.seed
        if args.deterministic:
            cfg.setdefault("randomness", {})["deterministic"] = True
        runner = Runner.from_cfg(cfg)
        launch.check_train_data(runner)
        runner.train()


if __name__ == "__main__":
    main()
