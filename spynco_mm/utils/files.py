"""Files that are either the old one or the new one, whole, and folders with one owner."""

import errno
import hashlib
import os
import socket
import sys
import tempfile
from pathlib import Path
from typing import IO

from mmengine.fileio import LocalBackend, register_backend

PathLike = str | os.PathLike

#: What a system says of a disk, a share of one, or a file that can grow no further.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


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
    # Behind a hash, since a name may have 255 bytes and no more.
    long = len(os.fsencode(path.name)) > 250
    name = hashlib.sha256(os.fsencode(path.name)).hexdigest() if long else path.name
    part = path.with_name(name + ".part")
    try:
        with open(part, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        if error.errno and not error.filename:  # A full disk does not name the file.
            error.filename = str(path)
        raise
    finally:
        part.unlink(missing_ok=True)


def lock_folder(folder: str | Path, wait: bool = False) -> IO:
    """Keep a folder for this process, until the returned file is closed or the process ends.

    The kernel releases the lock however the process ends, and processes that it forks, such as the
    workers of a data loader, do not hold it. Threads of one process do not exclude each other.

    Args:
        folder: The folder, which is made if it is missing. It gets a small file ``.lock``.
        wait: Wait while another process has it, and say so, instead of failing.

    Raises:
        ValueError: Another process has it.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    file = open(folder / ".lock", "a+")  # noqa: SIM115
    try:
        import fcntl  # which Windows does not have

        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            file.seek(0)
            taken = f"{folder} is in use by {file.read().strip() or 'another process'}"
            if not wait:
                raise ValueError(
                    f"{taken}; wait for it, end it, or choose another folder."
                ) from None
            print(f"{taken}; waiting for it.", file=sys.stderr, flush=True)
            fcntl.lockf(file, fcntl.LOCK_EX)
    except (OSError, ImportError) as error:
        if isinstance(error, OSError) and error.errno not in (errno.ENOLCK, errno.ENOTSUP):
            raise
        print(
            f"{folder} cannot be locked on this disk or system ({error}); see to it that nothing "
            "else writes there.",
            file=sys.stderr,
            flush=True,
        )
    except BaseException:
        file.close()
        raise
    # Whoever comes next is told.
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
    file.flush()
    return file


def check_writable(path: str | Path) -> None:
    """Make sure that a file can be written, before the work whose result it is to hold.

    Args:
        path: The file, which is left as it is; its folder is made if it is missing.

    Raises:
        ValueError: It cannot.
    """
    path = Path(path)
    try:
        if path.parent.exists() and not path.parent.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise ValueError(
            f"{path} cannot be written ({error.strerror}); name another file."
        ) from error


class AtomicLocalBackend(LocalBackend):
    """Local files that are either the old ones or the new ones, whenever the process is killed.

    Registered as ``atomic``: ``CheckpointHook(backend_args=dict(backend="atomic"))``.
    """

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write a file, whole or not at all."""
        write_atomically(filepath, obj)


register_backend("atomic", AtomicLocalBackend)
