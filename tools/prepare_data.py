"""Fetch one of the paper's data sets.

    python tools/prepare_data.py cifar10
    python tools/prepare_data.py ucmerced --root /big/disk

An interrupted download goes on where it stopped. Without a network, it says which file to put
where.
"""

if __name__ == "__main__":  # before the imports below, which take seconds
    import early

    early.start()

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from spynco_mm.datasets.download import SOURCES, prepare_data
from spynco_mm.datasets.images import DataError


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=SOURCES, help="the data set")
    parser.add_argument("--root", default="data", help="folder for the data sets")
    args = parser.parse_args()
    there = Path(args.root, SOURCES[args.name].folder).is_dir()
    try:
        folder = prepare_data(args.name, args.root)
    except DataError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{args.name} {'was already' if there else 'is now'} in {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
