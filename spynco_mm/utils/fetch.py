"""Files from the network, whole or not at all."""

import http.client
import os
import urllib.error
import urllib.request
from pathlib import Path

from tqdm import tqdm

#: Seconds without a byte after which a connection counts as broken.
TIMEOUT = 30


def progress_bar(total: int | None, done: int, what: str) -> tqdm:
    """A bar that counts bytes."""
    return tqdm(total=total, initial=done, desc=what, unit="B", unit_scale=True, unit_divisor=1024)


def fetch(url: str, file: Path) -> None:
    """Download to ``file``, through ``file.part``, which a later call continues.

    A connection that breaks is taken up again where it broke, as long as each brings something.

    Args:
        url: What to fetch.
        file: Where to put it, once complete.

    Raises:
        OSError, http.client.HTTPException: The server cannot be reached, refuses, or breaks off at
            once.
    """
    part = file.with_name(file.name + ".part")
    file.parent.mkdir(parents=True, exist_ok=True)
    part.touch()
    while True:
        done = part.stat().st_size
        try:
            _fetch_rest(url, part)
            break
        except (OSError, http.client.HTTPException):
            if part.stat().st_size <= done:
                raise
    os.replace(part, file)


def _fetch_rest(url: str, part: Path) -> None:
    """Append to ``part`` what it lacks."""
    done = part.stat().st_size
    request = urllib.request.Request(url, headers={"Range": f"bytes={done}-"} if done else {})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        # Nothing after the bytes we have. Only the checksum can say whether they are the file.
        return
    with response:
        if response.status != 206:  # The server starts from the beginning.
            done = 0
        length = response.headers.get("Content-Length")
        total = None if length is None else done + int(length)
        with (
            open(part, "ab" if done else "wb") as file,
            progress_bar(total, done, part.stem) as bar,
        ):
            while block := response.read(1 << 16):
                file.write(block)
                bar.update(len(block))
            if total is not None and file.tell() != total:
                raise http.client.IncompleteRead(b"", total - file.tell())
