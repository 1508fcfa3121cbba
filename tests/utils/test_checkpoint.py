import pickle
import resource
import zipfile

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import HistoryBuffer
from mmengine.runner import checkpoint as mmengine_checkpoint
from mmengine.runner.checkpoint import _load_checkpoint

from spynco_mm.utils.checkpoint import (
    CheckpointError,
    describe_mismatch,
    fetch_checkpoint,
    parse_config,
    read_checkpoint,
)


def saved(content, path, **kwargs):
    torch.save(content, path, **kwargs)
    return path


# ---------------------------------------------------------------------------------------- honest


def test_parsing_gives_what_executing_gives(tiny_checkpoint):
    text = torch.load(tiny_checkpoint, weights_only=True)["meta"]["cfg"]
    assert parse_config(text) == Config.fromstring(text, ".py").to_dict()
    assert parse_config("a = dict(b=-1, **{'c d': (1, [2.5, None])})\nd = {'e': 'f'}") == dict(
        a={"b": -1, "c d": (1, [2.5, None])}, d={"e": "f"}
    )


def test_a_runners_checkpoint(tiny_checkpoint):
    read, plain = read_checkpoint(tiny_checkpoint), torch.load(tiny_checkpoint, weights_only=True)
    assert read.keys() == plain.keys() and read["meta"] == plain["meta"]
    assert describe_mismatch(read["state_dict"], plain["state_dict"]) == ""
    assert all(torch.equal(read["state_dict"][n], w) for n, w in plain["state_dict"].items())
    history = read["message_hub"]["log_scalars"]["train/loss_g"]
    assert history.statistics("mean") == plain["message_hub"]["log_scalars"]["train/loss_g"].mean()


def test_weights_of_other_origins(tmp_path):
    """Bare, tied and expanded, and of torch before 1.6."""
    weight = torch.rand(64, 64)
    content = dict(a=weight, b=weight, c=torch.ones(1).expand(3, 3))
    for kind in (True, False):
        path = saved(content, tmp_path / "bare.pth", _use_new_zipfile_serialization=kind)
        assert torch.equal(read_checkpoint(path)["b"], weight)
        assert torch.equal(_load_checkpoint(str(path))["c"], torch.ones(3, 3))


def test_describe_mismatch():
    model = {"a.w": torch.zeros(2, 3), "b.w": torch.zeros(1), "same": torch.zeros(4)}
    other = {"a.w": torch.zeros(3, 3), "c.w": torch.zeros(1), "same": torch.ones(4)}
    assert describe_mismatch(model, other) == (
        "a.w has shape (3, 3) in the checkpoint and (2, 3) in the model, "
        "b.w is missing in the checkpoint, c.w is unknown to the model"
    )
    assert describe_mismatch(model, other, at_most=1).endswith("(2, 3) in the model, and 2 more")
    assert describe_mismatch(model, dict(model)) == ""
    half = {name: value.half() for name, value in model.items()}
    assert describe_mismatch(model, half) == ""
    assert describe_mismatch(model, {**half, "same": torch.zeros(4, dtype=torch.int32)}) == (
        "same is torch.int32 in the checkpoint and torch.float32 in the model"
    )


# ------------------------------------------------------------------------------------ not honest


@pytest.mark.parametrize("new", [True, False], ids=["archive", "before torch 1.6"])
def test_a_pickle_is_not_run(trap, tmp_path, new):
    path = saved(dict(a=trap), tmp_path / "evil.pth", _use_new_zipfile_serialization=new)
    for read in (read_checkpoint, _load_checkpoint):
        with pytest.raises(CheckpointError, match=r"evil\.pth: it holds more than .*posix\.mkdir"):
            read(str(path))
    assert not trap.folder.exists()
    torch.load(path, weights_only=False)
    assert trap.folder.exists()


def test_no_checkpoint(trap, tmp_path):
    path = tmp_path / "odd.pth"
    with pytest.raises(CheckpointError, match=r"odd\.pth: there is no such checkpoint"):
        read_checkpoint(path)
    for content in (b"", b"<html>Not found</html>", b"hello", b"PK\x03\x04hello"):
        path.write_bytes(content)
        with pytest.raises(
            CheckpointError, match=r"odd\.pth: (this is no checkpoint|it is cut off)"
        ):
            read_checkpoint(path)
    path.write_bytes(pickle.dumps(trap, 2))
    with pytest.raises(CheckpointError):
        read_checkpoint(path)
    assert not trap.folder.exists()
    with pytest.raises(CheckpointError, match="it holds a list instead of a dict"):
        read_checkpoint(saved([1], path))


def test_an_archive_that_unpacks_to_more(tiny_checkpoint, tmp_path):
    path = tmp_path / "bomb.pth"
    with zipfile.ZipFile(tiny_checkpoint) as old, zipfile.ZipFile(path, "w") as new:
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))
        new.writestr("archive/data/bomb", bytes(50 << 20), zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 5 << 20
    for read in (read_checkpoint, _load_checkpoint):
        with pytest.raises(CheckpointError, match=r"unpacks to .* more than its own size"):
            read(str(path))


class Calls:
    """What ``function(*args)`` returns when it is unpickled."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


def nested(depth):
    """2^depth values in a file of a few bytes each."""
    value = [0]
    for _ in range(depth):
        value = [value, value]
    return value


def endless():
    value = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    "thing, reason",
    [
        (torch.zeros(1).expand(1 << 40), "it takes 4398046511104 bytes in memory and has"),
        (torch.zeros(4).to_sparse(), "a tensor in it is not stored as its shape says"),
        (torch.empty(1 << 40, device="meta"), "a tensor in it is not stored as its shape says"),
        (
            Calls(np.empty(0).__reduce__()[0], np.ndarray, (1 << 23,), "d"),
            "it takes 67108864 bytes",
        ),
        (Calls(bytearray, 1 << 26), "it takes 67108864 bytes"),
        (nested(40), "it holds more than 1000000 values"),
        (endless(), "it holds more than 1000000 values"),
        (HistoryBuffer, "it holds <class .*HistoryBuffer'>, which is no data"),
        (torch.nn.Parameter, "it holds <class .*Parameter'>, which is no data"),
    ],
)
def test_content_that_is_more_than_it_seems(tmp_path, thing, reason):
    path = saved(dict(state_dict={}, message_hub=thing), tmp_path / "odd.pth")
    assert path.stat().st_size < 20_000
    with pytest.raises(CheckpointError, match=rf"odd\.pth: {reason}"):
        read_checkpoint(path)


def test_storage_that_is_not_in_the_file(tmp_path):
    """Files of torch before 1.6 tell the size of what they hold in two places."""
    path = tmp_path / "old.pth"
    saved(dict(a=torch.arange(4.0)), path, _use_new_zipfile_serialization=False)
    small, large = b"cpuq\x06K\x04", b"cpuq\x06\x8a\x05" + (1 << 32).to_bytes(5, "little")
    assert small in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(small, large))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CheckpointError, match=r"old\.pth: this is no checkpoint"):
        read_checkpoint(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


def test_a_log_history_changes_no_other(tmp_path):
    """mmengine's own reading takes over functions for all histories of the process."""
    evil, before = HistoryBuffer([1.0], [1]), dict(HistoryBuffer._statistics_methods)
    HistoryBuffer._statistics_methods = dict(before, mean=HistoryBuffer.max)
    path = saved(dict(log=evil), tmp_path / "evil.pth")
    HistoryBuffer._statistics_methods = before.copy()
    read_checkpoint(path)
    assert HistoryBuffer._statistics_methods == before
    HistoryBuffer._statistics_methods = {}  # as before the first history of a process
    assert read_checkpoint(path)["log"].statistics("mean") == 1


def test_flipped_bytes(tmp_path):
    content = dict(state_dict={"a": torch.arange(8.0), "b": torch.ones(2, dtype=torch.int64)})
    data = bytearray(saved(content, tmp_path / "whole.pth").read_bytes())
    path, refused = tmp_path / "flipped.pth", 0
    for i in range(0, len(data), 3):
        data[i] ^= 1 << (i % 8)
        path.write_bytes(data)
        data[i] ^= 1 << (i % 8)
        try:
            state = read_checkpoint(path)["state_dict"]
        except CheckpointError as error:
            assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
            refused += 1
        else:  # in what fills the gaps
            assert all(torch.equal(state[n], w) for n, w in content["state_dict"].items())
    assert refused > len(data) / 9
    for stop in range(0, len(data), 97):
        path.write_bytes(data[:stop])
        with pytest.raises(CheckpointError):
            read_checkpoint(path)


@pytest.mark.parametrize(
    "text, kept",
    [
        ("gpu_ids = [0, 1]\nmodel = dict(type='A')", "gpu_ids = [0, 1]"),
        ("gpu_ids = [0, 1]\nimport os\nos.mkdir({trap!r})", None),
        ("gpu_ids = [__import__('os').mkdir({trap!r})]", None),
        ("model = dict(type='A')", None),
        (["gpu_ids"], None),
    ],
)
def test_the_config_that_mmengine_would_execute(trap, tmp_path, text, kept):
    if isinstance(text, str):
        text = text.replace("{trap!r}", repr(str(trap.folder)))
    path = saved(dict(meta=dict(config=text, epoch=1)), tmp_path / "a.pth")
    meta = read_checkpoint(path)["meta"]
    assert meta == dict(epoch=1) | ({} if kept is None else dict(config=kept))
    assert not trap.folder.exists()


# ------------------------------------------------------------------------------- behind an address


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch" / "hub" / "checkpoints"


def put(server, name, content, folder):
    server.files[f"/{name}"] = saved(content, folder / "put.pth").read_bytes()
    return f"{server.url}/{name}"


def test_an_address_is_fetched_once_and_read_as_data(server, cache, trap, tmp_path, capsys):
    url = put(server, "a.pth", dict(a=torch.ones(3)), tmp_path)
    assert torch.equal(read_checkpoint(url)["a"], torch.ones(3))
    assert "a.pth" in capsys.readouterr().err  # the progress bar
    assert torch.equal(_load_checkpoint(url)["a"], torch.ones(3)) and len(server.requests) == 1
    # Another one of the same name is another one.
    other = put(server, "b/a.pth", dict(a=torch.zeros(3)), tmp_path)
    assert torch.equal(read_checkpoint(other)["a"], torch.zeros(3))

    evil = put(server, "evil.pth", dict(a=trap), tmp_path)
    for read in (read_checkpoint, _load_checkpoint):
        with pytest.raises(
            CheckpointError, match=r"evil\.pth, kept as .*evil.*\.pth: it holds more"
        ):
            read(evil)
    assert not trap.folder.exists()


def test_what_is_not_whole_is_not_used(server, cache, tmp_path, full_disk):
    url = put(server, "a.pth", dict(a=torch.ones(30_000)), tmp_path)
    words = r"cannot be kept as .*a\.pth \(.*; make room for it\.$"
    with full_disk(10**4), pytest.raises(CheckpointError, match=words):
        read_checkpoint(url)
    server.breaks = [50_000, 0]
    with pytest.raises(CheckpointError, match=r"a\.pth cannot be fetched \(.*name the file\.$"):
        read_checkpoint(url)
    assert list((cache / "spynco_mm").iterdir()) == []
    assert torch.equal(read_checkpoint(url)["a"], torch.ones(30_000))
    with pytest.raises(CheckpointError, match=r"none\.pth cannot be fetched \(HTTP Error 404"):
        read_checkpoint(f"{server.url}/none.pth")


def test_a_copy_in_torchs_cache_is_used(server, cache, tmp_path):
    cache.mkdir(parents=True)
    saved(dict(a=torch.ones(3)), cache / "vgg-0123abcd.pth")
    assert fetch_checkpoint(f"{server.url}/vgg-0123abcd.pth") == cache / "vgg-0123abcd.pth"
    assert not server.requests


@pytest.mark.parametrize("scheme", ["torchvision", "modelzoo", "openmmlab", "open-mmlab", "mmcls"])
def test_every_scheme_of_mmengine(server, cache, trap, tmp_path, monkeypatch, scheme):
    url = put(server, "evil.pth", dict(a=trap), tmp_path)
    for table in ("get_torchvision_models", "get_external_models", "get_mmcls_models"):
        monkeypatch.setattr(mmengine_checkpoint, table, lambda: dict(net=url))
    with pytest.raises(CheckpointError, match="holds more than weights"):
        _load_checkpoint(f"{scheme}://net")
    assert server.requests and not trap.folder.exists()
