"""Fetch, verify and unpack the paper's data sets."""

import gzip
import hashlib
import http.client
import os
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import IO

from mmengine.dist import all_gather_object, get_rank
from torchvision.datasets import CIFAR10
from tqdm import tqdm

from spynco_mm.utils.fetch import fetch, progress_bar
from spynco_mm.utils.files import FULL, PathLike, lock_folder

from .images import DataError


@dataclass(frozen=True)
class Source:
    """Where a data set comes from.

    Args:
        url: Address of the archive.
        algorithm: Name of the checksum in :mod:`hashlib`.
        checksum: The archive's checksum, in hexadecimal digits.
        folder: Folder that the archive unpacks to.
    """

    url: str
    algorithm: str
    checksum: str
    folder: str

    @property
    def file(self) -> str:
        """File name of the archive."""
        return self.url.rsplit("/", 1)[-1]


# Serves both: its A are Cezanne's paintings, its B landscape photographs. The checksum is the one
# in TensorFlow Datasets (cycle_gan), for the same archive, 279 885 071 bytes, at its old address.
_CEZANNE2PHOTO = Source(
    "http://efrosgans.eecs.berkeley.edu/cyclegan/datasets/cezanne2photo.zip",
    "sha256",
    "3a6c10ca21f9485862f1cbd707744b9dc258954a04631271d23a3605eeb63cff",
    "cezanne2photo",
)

SOURCES = {
    "cifar10": Source(CIFAR10.url, "md5", CIFAR10.tgz_md5, CIFAR10.base_folder),
    # The checksum is torchgeo's.
    "ucmerced": Source(
        "http://weegee.vision.ucmerced.edu/datasets/UCMerced_LandUse.zip",
        "md5",
        "5b7ec56793786b6dc8a908e8854ac0e4",
        "UCMerced_LandUse",
    ),
    "cezanne": _CEZANNE2PHOTO,
    "landscape": _CEZANNE2PHOTO,
}


def verify(file: Path, algorithm: str, checksum: str) -> None:
    """Raise a :class:`DataError` unless the file has that checksum."""
    digest = hashlib.new(algorithm)
    try:
        with (
            open(file, "rb") as stream,
            progress_bar(file.stat().st_size, 0, f"Verifying {file.name}") as bar,
        ):
            while block := stream.read(1 << 20):
                digest.update(block)
                bar.update(len(block))
    except OSError as error:
        raise DataError(
            f"{file}: it cannot be read ({error.strerror}); remove it and fetch it again."
        ) from error
    if digest.hexdigest() != checksum:
        raise DataError(
            f"{file}: its {algorithm} is {digest.hexdigest()}, not {checksum}, so it is damaged or "
            "another file; remove it and fetch it again."
        )


#: What the standard library raises for an archive that is not whole.
_DAMAGED = (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError)


def _zip_members(archive: Path) -> "Iterator[tuple[str, IO[bytes] | None]]":
    """Name and content of each member, None for a folder."""
    with zipfile.ZipFile(archive) as file:
        for member in file.infolist():
            yield member.filename, None if member.is_dir() else file.open(member)


def _tar_members(archive: Path) -> "Iterator[tuple[str, IO[bytes] | None]]":
    """Name and content of each member, None for a folder."""
    with tarfile.open(archive, "r:gz") as file:
        for member in file:
            if not (member.isfile() or member.isdir()):
                raise DataError(
                    f"{archive}: its member '{member.name}' is neither a file nor a folder; do not "
                    "use this archive."
                )
            yield member.name, file.extractfile(member)


def unpack(archive: Path, root: Path) -> None:
    """Unpack a .zip or .tar.gz into a folder, and nothing outside of it.

    Not with tarfile's own filters, which early releases of Python 3.10 and 3.11 do not have.

    Raises:
        DataError: The archive is broken, or a member would land elsewhere or is a link or a device.
        OSError: The folder cannot be written.
    """
    members = _zip_members(archive) if archive.suffix == ".zip" else _tar_members(archive)
    try:
        for name, content in tqdm(members, desc=f"Unpacking {archive.name}", unit="file"):
            path = root / name
            if not path.resolve().is_relative_to(root.resolve()):
                raise DataError(
                    f"{archive}: its member '{name}' points out of the folder; do not use this "
                    "archive."
                )
            if content is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                with content, open(path, "wb") as file:
                    shutil.copyfileobj(content, file)
    except _DAMAGED as error:
        raise DataError(
            f"{archive}: it cannot be unpacked ({error}); remove it and fetch it again."
        ) from error


def _fetch_and_unpack(name: str, source: Source, root: Path) -> None:
    """Put a data set into ``root``, which has not got it."""
    folder, archive = root / source.folder, root / source.file
    if not archive.exists():
        try:
            fetch(source.url, archive)
        except (OSError, http.client.HTTPException) as error:
            if getattr(error, "errno", None) in FULL:
                raise DataError(
                    f"{archive}: it cannot be written ({error}); make room for it, after which the "
                    "same command goes on, or choose another --root."
                ) from error
            raise DataError(
                f"{source.url} cannot be fetched ({error}); fetch it on a computer with a network, "
                f"put it at {archive} and run the same command again."
            ) from error
    verify(archive, source.algorithm, source.checksum)
    # Under its own name only when it is complete, so that a folder that exists is whole.
    unpacking = root / f".{source.folder}.unpacking"
    shutil.rmtree(unpacking, ignore_errors=True)
    try:
        unpacking.mkdir()
        unpack(archive, unpacking)
        if not (unpacking / source.folder).is_dir():
            raise DataError(
                f"{archive}: there is no folder '{source.folder}' in it; remove it and fetch it "
                "again."
            )
        os.replace(unpacking / source.folder, folder)
    except OSError as error:
        raise DataError(
            f"{folder}: it cannot be written ({error}); make room for it, or choose another --root."
        ) from error
    finally:
        shutil.rmtree(unpacking, ignore_errors=True)


def prepare_data(name: str, root: PathLike = "data") -> Path:
    """Make sure that a data set lies in ``root``: fetch, verify and unpack what is missing.

    An archive that lies in ``root`` already is used. Data that are there are not touched.

    Args:
        name: One of :data:`SOURCES`.
        root: Folder for the data sets.

    Returns:
        The data set's own folder.

    Raises:
        DataError: It cannot be fetched, verified or unpacked.
    """
    source, root = SOURCES[name], Path(root)
    folder = root / source.folder
    if folder.is_dir():
        return folder
    try:
        lock = lock_folder(root, wait=True)
    except OSError as error:
        raise DataError(
            f"{root} is no folder that can be written ({error}); choose another --root."
        ) from error
    with lock:
        if not folder.is_dir():  # Whoever waited finds the work done.
            _fetch_and_unpack(name, source, root)
    return folder


def _do(work: Callable[[], object], future: Future) -> None:
    try:
        future.set_result(work())
    except Exception as error:
        future.set_exception(error)


def first_on_each_node(work: Callable[[], object]) -> None:
    """Let one process of each node do some work on its files while the others wait.

    The very first process goes before the other nodes' first ones, since nodes often share a disk.
    However long it takes, no exchange does: every process says each second whether it is done, so
    that nobody waits as long as the process group's timeout, and one that has died is noticed.

    Raises:
        DataError: In all processes, if the work failed in any of them.
    """
    first = get_rank() == 0
    first_here = int(os.environ.get("LOCAL_RANK", get_rank())) == 0
    for mine in (first, first_here and not first):
        future = Future()
        if mine:
            Thread(target=_do, args=(work, future), daemon=True).start()
        else:
            future.set_result(None)
        problems = [None]
        while None in problems:  # Who is not done yet.
            problem = error = None
            if wait([future], timeout=1).done:
                error = future.exception()
                known = error is None or isinstance(error, DataError)
                problem = str(error or "") if known else repr(error)
            problems = all_gather_object(problem)
        if any(problems):
            raise DataError(next(filter(None, problems))) from error
