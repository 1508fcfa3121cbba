"""Export a colorizer to ONNX or TorchScript, and compare the file with PyTorch on real pictures.

python tools/export.py work_dirs/spynco_demo/epoch_10.pth colorizer.onnx
python tools/export.py work_dirs/spynco_demo/epoch_10.pth colorizer.pt --output all

Beside the file, <name>.json tells how far its results are from PyTorch's, at several sizes.
"""

if __name__ == "__main__":  # before the imports below, which take seconds
    import early

    early.start()

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from spynco_mm.apis import Colorizer
from spynco_mm.apis.export import export_and_compare, format_comparison
from spynco_mm.utils.console import one_sentence_errors
from spynco_mm.utils.files import write_atomically


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", help="checkpoint file, which carries its config")
    parser.add_argument("file", type=Path, help="to write: .onnx for ONNX, .pt for TorchScript")
    parser.add_argument("--config", help="config file, instead of the one in the checkpoint")
    parser.add_argument(
        "--output", default="1", help="1 (the final output), 2, 3, ..., or all (default: 1)"
    )
    parser.add_argument(
        "--raw", action="store_true", help="what the network makes, with whatever grey it has"
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    with one_sentence_errors():
        if args.output != "all" and not args.output.isdigit():
            raise ValueError(f"--output is a number or 'all', not '{args.output}'.")
        for name in filter(None, (args.checkpoint, args.config)):
            if args.file.resolve() == Path(name).resolve():
                raise ValueError(f"{args.file} is what is exported; name another file to write.")
        colorizer = Colorizer(
            args.config or args.checkpoint,
            args.checkpoint if args.config else None,
            device="cpu",
            raw=args.raw,
            output=args.output if args.output == "all" else int(args.output),
        )
        report = export_and_compare(colorizer, args.file)
        text = json.dumps(report, indent=2, allow_nan=False)
        write_atomically(args.file.with_suffix(f"{args.file.suffix}.json"), (text + "\n").encode())
        print(format_comparison(report))
        print(f"{args.file}: {report['megabytes']:.1f} MB")


if __name__ == "__main__":
    main()
