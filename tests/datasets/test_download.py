import hashlib
import io
import os
import re
import tarfile
import time
import zipfile

import pytest

from spynco_mm.datasets import DataError
from spynco_mm.datasets.download import SOURCES, Source, prepare_data, unpack, verify
from spynco_mm.utils.files import lock_folder

CONTENT = bytes(range(256)) * 4000  # about 1 MB


def zip_bytes(**members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return buffer.getvalue()


def tar_bytes(**members):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, text in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))
    return buffer.getvalue()


@pytest.fixture
def offer(server, monkeypatch):
    """Put a data set 'toy' on the server."""

    def put(data, name="toy.zip", checksum=None):
        server.files[f"/{name}"] = data
        checksum = checksum or hashlib.sha256(data).hexdigest()
        source = Source(f"{server.url}/{name}", "sha256", checksum, "toy")
        monkeypatch.setitem(SOURCES, "toy", source)

    return put


def test_verify(tmp_path):
    (tmp_path / "a").write_bytes(CONTENT)
    verify(tmp_path / "a", "md5", hashlib.md5(CONTENT).hexdigest())
    with pytest.raises(DataError, match=r"a: its md5 is .*, not 0123, so it is damaged or another"):
        verify(tmp_path / "a", "md5", "0123")
    with pytest.raises(
        DataError, match=r"it cannot be read \(Is a directory\); remove it and fetch"
    ):
        verify(tmp_path, "md5", "0123")


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_prepare_data(offer, server, tmp_path, kind):
    members = {"toy/a.txt": "A", "toy/sub/b.txt": "B", "readme.txt": "outside"}
    data = zip_bytes(**members) if kind == "zip" else tar_bytes(**members)
    offer(data, f"toy.{kind}")
    folder = prepare_data("toy", tmp_path)
    assert folder == tmp_path / "toy"
    assert (folder / "a.txt").read_text() == "A" and (folder / "sub" / "b.txt").read_text() == "B"
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "toy", f"toy.{kind}"]
    # Again: nothing is fetched, nothing is touched.
    (folder / "a.txt").write_text("mine")
    assert prepare_data("toy", tmp_path) == folder
    assert (folder / "a.txt").read_text() == "mine" and len(server.requests) == 1


def test_an_archive_put_there_by_hand(offer, server, tmp_path):
    data = zip_bytes(**{"toy/a.txt": "A"})
    offer(data)
    (tmp_path / "toy.zip").write_bytes(data)
    prepare_data("toy", tmp_path)
    assert (tmp_path / "toy" / "a.txt").exists() and not server.requests


def test_wrong_checksum(offer, tmp_path):
    offer(zip_bytes(**{"toy/a.txt": "A"}), checksum="0" * 64)
    with pytest.raises(DataError, match=r"toy\.zip: its sha256 is"):
        prepare_data("toy", tmp_path)
    assert not (tmp_path / "toy").exists()


def test_missing_on_the_server(offer, server, tmp_path):
    offer(b"")
    server.files.clear()
    with pytest.raises(DataError) as info:
        prepare_data("toy", tmp_path)
    assert re.fullmatch(
        r"http://127\.0\.0\.1:\d+/toy\.zip cannot be fetched \(HTTP Error 404: Not Found\); fetch "
        r"it on a computer with a network, put it at .*/toy\.zip and "
        r"run the same command again\.",
        str(info.value),
    )


def test_a_root_that_is_a_file(offer, tmp_path):
    offer(b"")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"file is no folder that can be written .* --root"):
        prepare_data("toy", tmp_path / "file")


def test_a_full_disk(offer, tmp_path, full_disk):
    offer(CONTENT)
    words = r"toy\.zip: it cannot be written .*; make room for it"
    with full_disk(10**5), pytest.raises(DataError, match=words):
        prepare_data("toy", tmp_path)
    assert (tmp_path / "toy.zip.part").stat().st_size == 10**5  # where the next call goes on


def test_two_at_once(offer, tmp_path, capfd):
    """The second one waits, and finds the work done."""
    offer(b"")
    read, write = os.pipe()
    first = os.fork()
    if not first:
        lock = lock_folder(tmp_path)
        os.write(write, b"locked")
        time.sleep(0.3)
        (tmp_path / "toy").mkdir()
        lock.close()
        os._exit(0)
    os.read(read, 6)
    assert prepare_data("toy", tmp_path) == tmp_path / "toy"
    assert f"{tmp_path} is in use by process {first} on " in capfd.readouterr().err
    os.waitpid(first, 0)


def test_no_network(offer, server, tmp_path):
    offer(b"")
    server.shutdown()
    server.server_close()
    with pytest.raises(DataError, match=r"cannot be fetched \(.*refused.*put it at .*toy\.zip"):
        prepare_data("toy", tmp_path)


def test_a_folder_that_cannot_be_written(offer, tmp_path):
    offer(zip_bytes(**{"toy/a.txt": "A"}))
    (tmp_path / "toy").touch()
    with pytest.raises(DataError, match=r"toy: it cannot be written .*choose another --root"):
        prepare_data("toy", tmp_path)


def test_archive_without_its_folder(offer, tmp_path):
    offer(zip_bytes(**{"else/a.txt": "A"}))
    with pytest.raises(DataError, match="there is no folder 'toy' in it"):
        prepare_data("toy", tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "toy.zip"]


@pytest.mark.parametrize("name", ["../outside.txt", "toy/../../outside.txt"])
@pytest.mark.parametrize("make, suffix", [(zip_bytes, "zip"), (tar_bytes, "tar.gz")])
def test_members_that_point_out_of_the_folder(tmp_path, make, suffix, name):
    (tmp_path / f"a.{suffix}").write_bytes(make(**{name: "x"}))
    with pytest.raises(DataError, match="do not use this archive"):
        unpack(tmp_path / f"a.{suffix}", tmp_path / "in")
    assert not (tmp_path / "outside.txt").exists()


def test_members_with_an_absolute_path(tmp_path):
    name = str(tmp_path / "outside.txt")
    (tmp_path / "a.zip").write_bytes(zip_bytes(**{name: "x"}))
    with pytest.raises(DataError, match="do not use this archive"):
        unpack(tmp_path / "a.zip", tmp_path / "in")
    (tmp_path / "a.tar.gz").write_bytes(tar_bytes(**{name: "x"}))
    with pytest.raises(DataError, match="do not use this archive"):
        unpack(tmp_path / "a.tar.gz", tmp_path / "in")
    assert not (tmp_path / "outside.txt").exists()


def test_members_that_are_links(tmp_path):
    """A link could point out of the folder, and a later member then go through it."""
    with tarfile.open(tmp_path / "a.tar.gz", mode="w:gz") as archive:
        info = tarfile.TarInfo("link")
        info.type, info.linkname = tarfile.SYMTYPE, str(tmp_path)
        archive.addfile(info)
    with pytest.raises(DataError, match="'link' is neither a file nor a folder"):
        unpack(tmp_path / "a.tar.gz", tmp_path / "in")
    assert not (tmp_path / "in").exists()


@pytest.mark.parametrize("make, suffix", [(zip_bytes, "zip"), (tar_bytes, "tar.gz")])
@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_damaged_archives(tmp_path, make, suffix, damage):
    data = bytearray(make(**{"toy/a.txt": "0123456789" * 1000}))
    if damage == "cut":
        del data[len(data) // 2 :]
    else:
        data[40:60] = bytes(20)
    (tmp_path / f"a.{suffix}").write_bytes(data)
    with pytest.raises(DataError, match=r"it cannot be unpacked .*remove it and fetch it again"):
        unpack(tmp_path / f"a.{suffix}", tmp_path / "in")


def test_the_papers_data_sets():
    assert set(SOURCES) == {"cifar10", "ucmerced", "cezanne", "landscape"}
    assert SOURCES["cifar10"].checksum == "c58f30108f718f92721af3b95e74349a"
    for source in SOURCES.values():
        digits = hashlib.new(source.algorithm).digest_size * 2
        assert re.fullmatch(rf"[0-9a-f]{{{digits}}}", source.checksum)
    assert SOURCES["cezanne"] == SOURCES["landscape"]
    assert SOURCES["ucmerced"].file == "UCMerced_LandUse.zip"
