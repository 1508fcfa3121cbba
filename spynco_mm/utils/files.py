"""Files that are either the old one or the new one, whole."""

import os
from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend


def write_atomically(path: str | Path, data: bytes) -> None:
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
    except OSError as error:
        error.filename = error.filename or str(path)  # A full disk names no file.
        raise
    finally:
        part.unlink(missing_ok=True)


class AtomicLocalBackend(LocalBackend):
    """Local files that are either the old ones or the new ones, whenever the process is killed.

    Registered as ``atomic``: ``CheckpointHook(backend_args=dict(backend="atomic"))``.
    """

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write a file, whole or not at all."""
        write_atomically(filepath, obj)


register_backend("atomic", AtomicLocalBackend)
