"""Files that are either the old one or the new one, whole."""

import os
from pathlib import Path
from typing import Union


def write_atomically(path: Union[str, Path], data: bytes) -> None:
    """Write a file that no reader sees half-written, and no crash leaves so.

    Args:
        path: The file; its folder is made if it is missing.
        data: Its whole content.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # In the same folder, because a rename is atomic only within one file system. Always of the same
    # name, so that what a killed process left is overwritten rather than kept for ever.
    part = path.with_name(path.name + ".part")
    try:
        with open(part, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
