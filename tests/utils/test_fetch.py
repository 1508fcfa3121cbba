import pytest

from spynco_mm.utils.fetch import fetch

CONTENT = bytes(range(256)) * 4000  # about 1 MB


def test_fetch(server, tmp_path, capsys):
    server.files["/a"] = CONTENT
    fetch(f"{server.url}/a", tmp_path / "new" / "a")
    assert (tmp_path / "new" / "a").read_bytes() == CONTENT
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a"]
    assert "100%" in capsys.readouterr().err


def test_a_broken_connection_is_taken_up_again(server, tmp_path):
    server.files["/a"] = CONTENT
    server.breaks = [300_000, 200_000]
    fetch(f"{server.url}/a", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert server.requests == [None, "bytes=300000-", "bytes=500000-"]


def test_a_later_call_continues(server, tmp_path):
    server.files["/a"] = CONTENT
    server.breaks = [300_000, 0]
    with pytest.raises(Exception, match="IncompleteRead"):
        fetch(f"{server.url}/a", tmp_path / "a")
    assert not (tmp_path / "a").exists()
    assert (tmp_path / "a.part").read_bytes() == CONTENT[:300_000]
    fetch(f"{server.url}/a", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert server.requests[-1] == "bytes=300000-"


def test_a_server_without_ranges_starts_over(server, tmp_path):
    server.files["/a"] = CONTENT
    server.ranges = False
    (tmp_path / "a.part").write_bytes(b"x" * 1000)
    fetch(f"{server.url}/a", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_a_part_that_is_already_whole(server, tmp_path):
    server.files["/a"] = CONTENT
    (tmp_path / "a.part").write_bytes(CONTENT)
    fetch(f"{server.url}/a", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT
