import pickle

import numpy as np
import pytest
from cifar10_files import CLASSES, write_cifar10
from forked import ranks

from spynco_mm.datasets import CIFAR10Colorization, DataError, EpochSampler


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_reads_the_format(tmp_path, protocol):
    pictures, labels = write_cifar10(tmp_path / "cifar-10-batches-py", protocol=protocol)
    train = CIFAR10Colorization(data_root=tmp_path)
    test = CIFAR10Colorization(data_root=tmp_path, test_mode=True)
    assert len(train) == 20 and len(test) == 4
    assert train.metainfo["classes"] == tuple(CLASSES)
    for index, seed in EpochSampler(train, seed=0):
        item = train[index, seed]
        np.testing.assert_array_equal(item["img_gray"], pictures[index])
        matches = (pictures == item["img_color"]).all(axis=(1, 2, 3))
        assert matches.sum() == 1 and not matches[index]
        assert item["gt_label"] == labels[index]
        assert item["img_path"].endswith(f"train_{index:05d}.png")
        item["img_gray"][:] = 0
        item["img_color"][:] = 0
    np.testing.assert_array_equal(train.pictures, pictures)
    item = test[2]
    np.testing.assert_array_equal(item["img_gray"], item["img_color"])
    assert len(CIFAR10Colorization(data_root=tmp_path, split="train", test_mode=True)) == 20


def run_code():
    raise AssertionError("code in a data file ran")


class Evil:
    def __reduce__(self):
        return run_code, ()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a pickle",
        pickle.dumps(["a list"]),
        pickle.dumps(dict(data=np.zeros((4, 3072), np.uint8))),
        pickle.dumps(dict(data=np.zeros((4, 3072), np.uint8), labels=[0, 1, 2])),
        pickle.dumps(dict(data=np.zeros((4, 3071), np.uint8), labels=[0, 1, 2, 3])),
        pickle.dumps(dict(data=np.zeros((4, 3072), np.float32), labels=[0, 1, 2, 3])),
        pickle.dumps(dict(data=np.zeros((0, 3072), np.uint8), labels=[])),
        pickle.dumps(dict(data=Evil(), labels=[0])),
    ],
)
def test_broken_files(tmp_path, content):
    write_cifar10(tmp_path / "cifar-10-batches-py")
    (tmp_path / "cifar-10-batches-py" / "data_batch_3").write_bytes(content)
    with pytest.raises(DataError, match="data_batch_3: this is not a file of CIFAR-10's python"):
        CIFAR10Colorization(data_root=tmp_path)
    CIFAR10Colorization(data_root=tmp_path, test_mode=True)


def test_truncated_and_missing_files(tmp_path):
    folder = tmp_path / "cifar-10-batches-py"
    write_cifar10(folder)
    data = (folder / "test_batch").read_bytes()
    (folder / "test_batch").write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match="test_batch: this is not a file"):
        CIFAR10Colorization(data_root=tmp_path, test_mode=True)
    (folder / "data_batch_5").unlink()
    with pytest.raises(DataError, match="data_batch_5: this file of CIFAR-10 is missing; remove"):
        CIFAR10Colorization(data_root=tmp_path)


def test_labels_out_of_range(tmp_path):
    folder = tmp_path / "cifar-10-batches-py"
    write_cifar10(folder)
    content = dict(data=np.zeros((1, 3072), np.uint8), labels=[10])
    (folder / "test_batch").write_bytes(pickle.dumps(content))
    with pytest.raises(DataError, match="labels from 10 to 10 for 10 classes"):
        CIFAR10Colorization(data_root=tmp_path, test_mode=True)


def test_no_download(tmp_path):
    with pytest.raises(DataError, match=r"run 'spynco-prepare-data cifar10' .*, or"):
        CIFAR10Colorization(data_root=tmp_path, download=False)


DISTRIBUTED = """
import datetime, os, sys, time, warnings
from pathlib import Path

import spynco_mm
import torch.distributed as dist
from spynco_mm.datasets import CIFAR10Colorization, cifar10
from cifar10_files import write_cifar10

rank, root = int(os.environ["RANK"]), Path(sys.argv[1])
dist.init_process_group("gloo")
# Shorter than the download takes.
warnings.simplefilter("ignore", FutureWarning)  # torch 2.14 has another name for it
dist.distributed_c10d._set_pg_timeout(datetime.timedelta(seconds=2), dist.group.WORLD)

def prepare(name, folder):
    folder = Path(folder)
    with open(root / f"{folder.name}.log", "a") as log:
        print(rank, file=log)
    if folder.name == "fails":
        raise cifar10.DataError("the server is gone")
    if not (folder / "cifar-10-batches-py").exists():
        time.sleep(3 if folder.name == "one_node" else 0.5)
        write_cifar10(folder / "cifar-10-batches-py")

cifar10.prepare_data = prepare
for case in ("one_node", "two_nodes", "fails"):
    os.environ["LOCAL_RANK"] = "0" if case == "two_nodes" else str(rank)
    try:
        print(case, len(CIFAR10Colorization(data_root=root / case)))
    except cifar10.DataError as error:
        print(case, error)
"""


def test_one_process_of_each_node_downloads_first(tmp_path):
    """With two processes, on one node and on two that share a disk, and when it fails."""
    script = tmp_path / "distributed.py"
    script.write_text(DISTRIBUTED)
    for process in ranks(script, tmp_path):
        assert process.returncode == 0, process.stdout
        lines = process.stdout.splitlines()
        assert lines == ["one_node 20", "two_nodes 20", "fails the server is gone"]
    logs = {path.stem: path.read_text().split() for path in tmp_path.glob("*.log")}
    assert logs == dict(one_node=["0"], two_nodes=["0", "1"], fails=["0"])
