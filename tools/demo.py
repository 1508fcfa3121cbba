"""A page in the browser: drop a picture, see what every output of the pyramid makes of it.

python tools/demo.py work_dirs/spynco_demo/epoch_10.pth

Needs gradio: pip install -e '.[demo]'. Only this computer can reach the page unless --host says
otherwise; the page loads nothing from elsewhere.
"""

if __name__ == "__main__":  # before the imports below, which take seconds
    import early

    early.start()

import argparse
import importlib.util
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from spynco_mm.apis import Colorizer
from spynco_mm.utils.console import one_sentence_errors


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", help="checkpoint file, which carries its config")
    parser.add_argument("--config", help="config file, instead of the one in the checkpoint")
    parser.add_argument("--device", help="cpu, cuda, cuda:1 (default: the GPU if there is one)")
    parser.add_argument(
        "--working-size",
        type=int,
        metavar="PIXELS",
        help="colorize a copy whose longer side is reduced to this, and apply its chroma at full "
        "resolution; 0 colorizes at full resolution (default: 512)",
    )
    parser.add_argument(
        "--raw",
        action="store_true",
        help="what the network makes, with whatever grey it has, at full resolution",
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen at; 0.0.0.0 lets everybody in"
    )
    parser.add_argument("--port", type=int, default=7860)
    parser.add_argument(
        "--max-megapixels", type=float, default=24, help="refuse larger pictures (default: 24)"
    )
    parser.add_argument(
        "--max-megabytes", type=int, default=32, help="refuse larger files (default: 32)"
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    with one_sentence_errors():
        if importlib.util.find_spec("gradio") is None:
            raise ValueError("The page needs gradio; pip install 'gradio>=5,<6'.")
        from spynco_mm.apis.demo import launch_demo

        if args.working_size is None:
            args.working_size = 0 if args.raw else 512
        colorizer = Colorizer(
            args.config or args.checkpoint,
            args.checkpoint if args.config else None,
            device=args.device,
            output="all",
            raw=args.raw,
            working_size=args.working_size or None,
        )
        # As Ctrl-C does, leave no uploads behind.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit())
        launch_demo(colorizer, args.host, args.port, args.max_megapixels, args.max_megabytes)


if __name__ == "__main__":
    main()
