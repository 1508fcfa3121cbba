"""What pip puts on the PATH: ``spynco-train`` and the others start the tools of the package.

Installed beside the package, and imports nothing of it: that takes seconds, and a tool has things
to do before, see ``early.py`` and ``c_library.py``. So a command becomes the process of its tool.
"""

import os
import sys
from functools import partial
from importlib.util import find_spec


def start(tool: str) -> None:
    """Run a tool, in the place of this process, with its arguments.

    Args:
        tool: Name of a script of ``tools/``, without its suffix.
    """
    package = os.path.dirname(find_spec("spynco_mm").origin)
    script = os.path.join(package, ".mim", "tools", f"{tool}.py")
    os.execv(sys.executable, [sys.executable, script, *sys.argv[1:]])


colorize, demo, export, prepare_data, test, train = (
    partial(start, tool) for tool in ("colorize", "demo", "export", "prepare_data", "test", "train")
)
