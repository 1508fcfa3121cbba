import gc
import os
import re
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

# Two cores, often shared: more threads only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "2")

# The tests are of the CPU, on every machine. What needs a GPU is marked so, and sees it in a pytest
# of its own, "pytest -m gpu", which a test starts where there is one.
if "gpu" in sys.argv:
    os.environ["TESTS_SEE_GPU"] = "yes"
if "TESTS_SEE_GPU" not in os.environ:
    os.environ.setdefault("HIDDEN_GPUS", os.environ.get("CUDA_VISIBLE_DEVICES", "all"))
    os.environ["CUDA_VISIBLE_DEVICES"] = ""

import pytest
import shortcuts  # noqa: F401
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

import spynco_mm  # noqa: F401  (registers everything)

# mmengine collects garbage for every data set it builds, and so would look through all of torch.
gc.freeze()

# A shell in the background has it ignored, and so had all that is interrupted here.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items):
    for item in items:
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs a GPU"))


@pytest.fixture(autouse=True)
def mmagic_scope():
    """Configs say ``type='CycleGAN'`` without a prefix, as under a Runner."""
    init_default_scope("mmagic")


class Trap:
    """Makes a folder when its pickle is executed."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


@pytest.fixture
def trap(tmp_path):
    return Trap(tmp_path / "trap")


@pytest.fixture
def full_disk():
    """``with full_disk(n)``: no file may grow beyond n bytes."""
    resource = pytest.importorskip("resource")

    @contextmanager
    def limit(size):
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    return limit


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of 64 KiB, which a process holds in a name space of its own."""
    command = f"mount -t tmpfs -o size=64k tmpfs {tmp_path} && echo there && read wait"
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        holder = subprocess.Popen(["unshare", "-rm", "sh", "-c", command], **pipes)
    except FileNotFoundError:
        pytest.skip("there is no unshare")
    with holder:
        if holder.stdout.readline() != b"there\n":
            pytest.skip("no disk may be mounted here")
        yield Path(f"/proc/{holder.pid}/root{tmp_path}")
        holder.stdin.close()


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory):
    """A checkpoint that a Runner saved: exact consistency, two epochs of a very narrow network."""
    cfg = Config.fromfile(Path(__file__).parents[1] / "configs" / "spynco_exact_demo.py")
    cfg.merge_from_dict(
        {
            "work_dir": str(tmp_path_factory.mktemp("tiny_checkpoint")),
            "experiment_name": "tiny_checkpoint",
            "model.generator.base_channels": 4,
            "model.generator.num_blocks": 2,
            "model.discriminator.channels": (4, 8, 8, 8),
            "train_dataloader.dataset.crops_per_photo": 2,
            "train_cfg.max_epochs": 2,
            "log_level": "WARNING",
        }
    )
    Runner.from_cfg(cfg).train()
    return Path(cfg.work_dir, "epoch_2.pth")


class Handler(BaseHTTPRequestHandler):
    """Serves ``server.files``; knows ranges unless told not to, and can hang up half-way."""

    def do_GET(self):
        self.server.requests.append(self.headers.get("Range"))
        data = self.server.files.get(self.path)
        if data is None:
            return self.send_error(404)
        start, match = 0, re.match(r"bytes=(\d+)-", self.headers.get("Range") or "")
        if match and self.server.ranges:
            start = int(match[1])
            if start >= len(data):
                return self.send_error(416)
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        stop = len(data)
        if self.server.breaks:
            stop = start + self.server.breaks.pop(0)
        self.wfile.write(data[start:stop])

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.files, server.requests, server.breaks, server.ranges = {}, [], [], True
    server.url = f"http://127.0.0.1:{server.server_port}"
    polling = dict(poll_interval=0.01)  # 0.5 s would be waited for at the end of each test
    threading.Thread(target=server.serve_forever, kwargs=polling, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()
