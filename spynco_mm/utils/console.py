"""What every tool says and takes on the command line, and how it ends."""

import argparse
import os
import re
import sys
import time
from contextlib import contextmanager
from typing import Any

import torch.distributed
from mmengine.config import DictAction

from .. import compat


class CfgOptions(DictAction):
    """mmengine's ``--cfg-options``, which takes no spaces out of the name of a folder, and says so
    where the value of a key is missing.
    """

    @staticmethod
    def _parse_iterable(value: str) -> Any:
        text = value.strip("'\"")
        if text.startswith(("(", "[")) or "," in text:
            return DictAction._parse_iterable(text)
        return DictAction._parse_int_float_bool(text)

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        for pair in values:
            if "=" not in pair:
                parser.error(f"{option_string} takes key=value, got '{pair}'")
        super().__call__(parser, namespace, values, option_string)


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """What every tool that runs a config takes."""
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=CfgOptions,
        metavar="KEY=VALUE",
        help="override settings of the config, such as train_cfg.max_epochs=2",
    )
    parser.add_argument("--launcher", choices=["none", "pytorch", "slurm", "mpi"], default="none")
    parser.add_argument(
        "--local_rank", "--local-rank", type=int, default=0, help="set by launchers"
    )


#: Mistakes in a config that mmengine finds while it builds; other errors of these types are bugs.
CONFIG_MISTAKES = r"unexpected keyword argument|missing \d+ required|is not in the .* registry"


@contextmanager
def one_sentence_errors():
    """Let a tool end with the sentence of an expected error, without its traceback.

    In a distributed run the first process speaks for all that fail alike. ``SPYNCO_TRACEBACK=1`` in
    the environment shows the traceback.
    """
    try:
        yield
    except (OSError, ValueError, FloatingPointError, TypeError, KeyError) as error:
        sentence = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
        mistake = not isinstance(error, (TypeError, KeyError)) or re.search(
            CONFIG_MISTAKES, sentence
        )
        if os.environ.get("SPYNCO_TRACEBACK") == "1" or not mistake:
            raise
        if int(os.environ.get("RANK", 0)):
            # The launcher ends this process meanwhile if rank 0 failed as well.
            time.sleep(5)
        sys.stdout.flush()
        print(f"\n{type(error).__name__}: {sentence}", file=sys.stderr)
        print("(SPYNCO_TRACEBACK=1 shows where this came from.)", file=sys.stderr, flush=True)
        # At once: waiting for other processes of the run would hide the sentence.
        os._exit(1) if torch.distributed.is_initialized() else sys.exit(1)
    except KeyboardInterrupt:
        sys.stdout.flush()
        if not int(os.environ.get("RANK", 0)):
            print("\nInterrupted; a training goes on with --resume.", file=sys.stderr, flush=True)
        os._exit(130) if torch.distributed.is_initialized() else sys.exit(130)
    compat.leave_gloo()
