"""Each upstream fault, and that it is cured."""

import importlib
import io
import multiprocessing
import os
import pickle
import subprocess
import sys
import time
from importlib import metadata, util
from pathlib import Path

import mmcv
import numpy as np
import pytest
import torch
import torch.distributed
from forked import python_path
from mmagic.registry import MODELS
from mmengine.logging import HistoryBuffer
from mmengine.model import BaseModule
from mmengine.runner import ValLoop
from torch import nn

from spynco_mm import compat, compat_hooks

ROOT = Path(__file__).parents[1]
# Ours in place of compiled operators.
LITE = isinstance(sys.modules.get("mmcv._ext"), compat._MissingOps)


def run(*command, **kwargs):
    env = {**os.environ, "PYTHONPATH": python_path(ROOT)}
    return subprocess.run(
        [sys.executable, *map(str, command)],
        env=env, capture_output=True, text=True, timeout=300, **kwargs,
    )  # fmt: skip


# ------------------------------------------------------------------ check_versions


def versions(monkeypatch, **installed):
    """Pretend that these packages are installed, beside the real ones; None for missing."""
    real = metadata.version

    def version(name):
        found = installed.get(name.replace("-", "_"), real)
        if found is None:
            raise metadata.PackageNotFoundError(name)
        return real(name) if found is real else found

    monkeypatch.setattr(metadata, "version", version)


def test_versions_that_fit(monkeypatch):
    compat.check_versions()
    for found in ("2.6.0", "2.9.1+cu128", "2.14.0.dev20260101"):
        versions(monkeypatch, torch=found)
        compat.check_versions()
    versions(monkeypatch, mmcv=None, mmcv_lite="2.1.0")
    compat.check_versions()
    versions(monkeypatch, mmcv="2.0.1", mmcv_lite=None)
    compat.check_versions()
    # A maintained fork, and one that nobody here has heard of.
    versions(monkeypatch, mmengine=None, onedl_mmengine="0.10.12")
    compat.check_versions()
    providers = {"mmengine": ["my_engine"], "mmcv": ["onedl-mmcv"]}
    monkeypatch.setattr(metadata, "packages_distributions", lambda: providers)
    versions(monkeypatch, mmengine=None, my_engine="0.11", mmcv_lite=None, onedl_mmcv="2.3.6")
    compat.check_versions()


@pytest.mark.parametrize(
    "installed, words",
    [
        (dict(torch="2.5.1"), "needs torch>=2.6, but torch 2.5.1 is installed; pip install"),
        (dict(mmagic=None), r"needs mmagic>=1.2,<1.3, but it is missing; pip install -c requi"),
        (dict(mmagic="1.3.0"), "but mmagic 1.3.0 is installed"),
        (dict(mmengine="0.10.3"), r"onedl-mmengine>=0.10.8,<1, but mmengine 0.10.3 is installed"),
        (
            dict(mmcv=None, mmcv_lite=None),
            "mmcv>=2.0,<2.2 or mmcv-lite>=2.0,<2.2 or onedl-mmcv>=2"
            r".3,<2.4, but it is missing; pip",
        ),
        (dict(mmcv="2.2.0", mmcv_lite=None), "onedl-mmcv>=2.3,<2.4, but mmcv 2.2.0 is installed"),
    ],
)
def test_versions_that_do_not_fit(monkeypatch, installed, words):
    versions(monkeypatch, **installed)
    with pytest.raises(ImportError, match=words) as error:
        compat.check_versions()
    assert "\n" not in str(error.value)


# ------------------------------------------------------------------ alias_numpy_bool8


@pytest.fixture
def numpy_without_bool8(monkeypatch):
    """As NumPy 2 is."""
    # NumPy 1.24 and later make the name up when it is asked for.
    monkeypatch.delitem(getattr(np, "__deprecated_attrs__", {}), "bool8", raising=False)
    before = vars(np).pop("bool8", None)
    assert not hasattr(np, "bool8")
    yield
    vars(np).pop("bool8", None)
    if before is not None:
        np.bool8 = before


def test_numpy_bool8(numpy_without_bool8):
    with pytest.raises(AttributeError, match="bool8"):
        reload_mmagic_utils()
    assert compat.alias_numpy_bool8()
    assert np.bool8 is np.bool_
    reload_mmagic_utils()
    assert not compat.alias_numpy_bool8(), "there is nothing left to do"


# ------------------------------------------------------------------ accept_newer_mmcv


def test_mmagic_is_imported_beside_a_newer_mmcv(monkeypatch):
    """A copy of mmagic's ``__init__``, which stops there."""
    monkeypatch.setattr(mmcv, "__version__", "2.3.6")
    here = Path(util.find_spec("mmagic").origin)
    for name in [n for n in sys.modules if n == "mmagic" or n == "mmagic.version"]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(AssertionError, match=r"mmcv==2\.3\.6 is used but incompatible"):
        importlib.import_module("mmagic")
    assert compat.accept_newer_mmcv() and mmcv.__version__ == "2.3.6"
    assert sys.modules["mmagic"].__file__ == str(here)
    assert not compat.accept_newer_mmcv(), "there is nothing left to do"


def reload_mmagic_utils():
    """Run the module that names it again, beside the one in use."""
    spec = util.find_spec("mmagic.utils.trans_utils")
    spec.loader.exec_module(util.module_from_spec(spec))


# ------------------------------------------------------------------ stub_mmcv_ops


@pytest.mark.skipif(not LITE, reason="this mmcv has compiled operators")
def test_operators_say_why_they_cannot_run():
    from mmcv.ops import get_compiler_version, nms

    with pytest.raises(RuntimeError, match="'nms', but those of this mmcv are missing"):
        nms(torch.rand(3, 4), torch.rand(3), 0.5)
    assert get_compiler_version() == "n/a"


@pytest.fixture
def mmcv_folder(tmp_path, monkeypatch):
    """A folder from which mmcv imports modules too, and no ``mmcv._ext`` so far."""
    monkeypatch.setattr(mmcv, "__path__", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "mmcv._ext", raising=False)
    monkeypatch.delattr(mmcv, "_ext", raising=False)
    importlib.invalidate_caches()
    yield tmp_path
    # What the test imported or put in place; monkeypatch puts back what was there before.
    sys.modules.pop("mmcv._ext", None)
    vars(mmcv).pop("_ext", None)


def test_nothing_is_done_with_full_mmcv(mmcv_folder):
    (mmcv_folder / "_ext.py").write_text("def nms(): return 'compiled'")
    assert not compat.stub_mmcv_ops()
    assert importlib.import_module("mmcv._ext").nms() == "compiled"


@pytest.mark.parametrize("broken", [False, True])
def test_missing_or_broken_operators_are_replaced(mmcv_folder, broken):
    if broken:
        (mmcv_folder / "_ext.py").write_text("raise ImportError('undefined symbol: _ZN2at')")
    with pytest.raises(ImportError):
        importlib.import_module("mmcv._ext")
    assert compat.stub_mmcv_ops()
    stub = importlib.import_module("mmcv._ext")
    assert callable(stub.nms) and not hasattr(stub, "__wrapped__")
    assert util.find_spec("mmcv._ext") is stub.__spec__, "mmcv looks for it this way"
    assert not compat.stub_mmcv_ops(), "there is nothing left to do"


# ------------------------------------------------------------------ allow_mmengine_checkpoints


@pytest.fixture
def nothing_allowed():
    before = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    yield
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals(before)


def log_history():
    """The part of an mmengine checkpoint that is not tensors."""
    history = HistoryBuffer()
    for value in (3.0, 1.0, 2, np.float64(4.0)):
        history.update(value)
    info = dict(epoch=1, lr=np.float64(2e-4), counts=np.arange(3), flag=np.bool_(True))
    return dict(log_scalars={"train/loss": history}, runtime_info=info, resumed_keys={"lr": True})


def save(thing):
    file = io.BytesIO()
    torch.save(dict(state_dict={}, message_hub=thing), file)
    return io.BytesIO(file.getvalue())


def test_mmengine_checkpoint(nothing_allowed):
    with pytest.raises(pickle.UnpicklingError, match="HistoryBuffer"):
        torch.load(save(log_history()), weights_only=True)
    assert compat.allow_mmengine_checkpoints()
    loaded = torch.load(save(log_history()), weights_only=True)["message_hub"]
    history = loaded["log_scalars"]["train/loss"]
    np.testing.assert_array_equal(history.data[0], [3, 1, 2, 4])
    assert (history.mean(2), history.max(), history.min(), history.current()) == (3, 4, 1, 4)
    assert loaded["runtime_info"]["lr"] == 2e-4 and loaded["runtime_info"]["flag"]
    np.testing.assert_array_equal(loaded["runtime_info"]["counts"], [0, 1, 2])


class Evil:
    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    "thing",
    [
        Evil(os.system, "exit 1"),
        Evil(eval, "1"),
        Evil(getattr, HistoryBuffer, "__init__"),
        Evil(getattr, HistoryBuffer, "_set_default_statistics"),
        Evil(getattr, dict, "update"),
        Evil(np.load, "file.npy"),
        np.array([object()], dtype=object),
    ],
    ids=["system", "eval", "init", "private", "other getattr", "load", "objects"],
)
def test_checkpoints_may_hold_nothing_else(thing, nothing_allowed):
    compat.allow_mmengine_checkpoints()
    with pytest.raises((pickle.UnpicklingError, ValueError)):
        torch.load(save(thing), weights_only=True)


# ------------------------------------------------------------------ repair_generation_init_weights

CYCLEGAN = dict(
    type="CycleGAN",
    data_preprocessor=dict(type="DataPreprocessor"),
    generator=dict(
        type="ResnetGenerator", in_channels=3, out_channels=3, base_channels=8, num_blocks=1
    ),
    discriminator=dict(type="PatchDiscriminator", in_channels=3, base_channels=8, num_conv=1),
    default_domain="a",
    reachable_domains=["a", "b"],
    related_domains=["a", "b"],
)


@pytest.mark.parametrize("name", ["SpyncoGenerator", "SpyncoDiscriminator", "ResnetGenerator"])
def test_a_network_inside_a_model_that_starts_the_initialisation(name):
    class Parent(BaseModule):
        def __init__(self):
            super().__init__()
            channels = {} if "Spynco" in name else dict(in_channels=3, out_channels=3)
            self.network = MODELS.build(dict(type=name, **channels))

    parent = Parent()
    parent.init_weights()
    weights = next(m.weight for m in parent.modules() if isinstance(m, torch.nn.Conv2d))
    assert abs(weights.std() / 0.02 - 1) < 0.1


def test_cyclegan_initialises(monkeypatch):
    from mmagic.models.editors.pix2pix import pix2pix_modules  # noqa: F401
    from mmagic.models.utils import generation_init_weights as repaired

    original = getattr(repaired, "__wrapped__", None)
    if original is None:
        pytest.skip("this mmagic has no such fault")
    places = [m for n, m in list(sys.modules.items())
              if n.startswith("mmagic.") and "generation_init_weights" in vars(m)]  # fmt: skip
    assert all(m.generation_init_weights is repaired for m in places) and len(places) > 3
    with monkeypatch.context() as patch:
        for place in places:
            patch.setattr(place, "generation_init_weights", original)
        with pytest.raises(UnboundLocalError, match="init_info"):
            MODELS.build(CYCLEGAN).init_weights()
        assert compat.repair_generation_init_weights()
    assert not compat.repair_generation_init_weights(), "there is nothing left to do"

    torch.manual_seed(0)
    model = MODELS.build(CYCLEGAN)
    model.init_weights()
    weights = torch.cat([m.weight.flatten() for m in model.modules() if isinstance(m, nn.Conv2d)])
    assert weights.std().item() == pytest.approx(0.02, rel=0.05)
    assert not any(hasattr(m, "_params_init_info") for m in model.modules())


def test_pix2pix_initialises():
    unet = dict(type="UnetGenerator", in_channels=3, out_channels=3, num_down=5, base_channels=4)
    domains = dict(reachable_domains=["a"], discriminator=None, type="Pix2Pix", generator=unet)
    model = MODELS.build({**CYCLEGAN, **domains})
    model.init_weights()


# ------------------------------------------------------------------ time_any_evaluation


def test_evaluation_loops_say_how_long_they_are():
    """Evaluations of 50 batches: tests/tools/test_dist_train.py."""
    loop = object.__new__(ValLoop)
    loop.dataloader = range(7)
    assert loop.total_length == 7 and isinstance(vars(ValLoop)["total_length"], property)
    assert not compat.time_any_evaluation(), "there is nothing left to do"


# ------------------------------------------------------------------ several processes, hooks


def test_mending_twice_changes_nothing():
    """What these mend is tested in runs: tests/engine/test_distributed.py, test_loss_hook.py and
    tests/tools/test_resume.py.
    """
    assert not compat.synchronize_translation_models()
    assert not compat_hooks.name_weights_without_wrapper()
    assert not compat_hooks.save_schedulers_as_data()
    assert not compat_hooks.keep_random_states_while_visualizing()
    assert not compat_hooks.show_samples_in_any_visualizer()


def test_average_of_one_process(tmp_path, monkeypatch):
    """The mean is over all gradients at once, and leaves parameters without one alone."""
    parameters = [nn.Parameter(torch.zeros(2, 3)), nn.Parameter(torch.zeros(4)),
                  nn.Parameter(torch.zeros(1))]  # fmt: skip
    parameters[0].grad, parameters[1].grad = torch.ones(2, 3), torch.arange(4.0)
    reduced = []

    def all_reduce(tensor):  # a second process whose gradients are three times as large
        reduced.append(tensor.numel())
        tensor.mul_(4)

    monkeypatch.setattr(torch.distributed, "all_reduce", all_reduce)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    compat.average_gradients(parameters)
    assert reduced == [10]
    assert torch.equal(parameters[0].grad, torch.full((2, 3), 2.0))
    assert torch.equal(parameters[1].grad, 2 * torch.arange(4.0))
    assert parameters[2].grad is None
    compat.average_gradients(parameters[2:])
    assert reduced == [10], "nothing to send"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing is forked")
def test_a_fork_that_hangs_is_made_again(monkeypatch):
    """The hook stands for the lock that the first two children wait for, before their first line.

    A hook cannot be taken back, so this one does nothing afterwards.
    """
    children = []

    def hang():
        if len(children) in (1, 2):
            time.sleep(100)

    monkeypatch.setattr(os, "fork", getattr(os.fork, "__wrapped__", os.fork))
    monkeypatch.setattr(compat, "FORK_SECONDS", 0.2)
    with monkeypatch.context() as python:
        python.setattr(sys, "version_info", (3, 11, 9))
        assert compat.fork_until_it_runs() and not compat.fork_until_it_runs()
        monkeypatch.setattr(os, "fork", os.fork.__wrapped__)
        python.setattr(sys, "version_info", (3, 11, 10))
        assert not compat.fork_until_it_runs()
        python.setattr(sys, "version_info", (3, 10, 14))
        assert compat.fork_until_it_runs()
    os.register_at_fork(before=lambda: children.append(1), after_in_child=hang)
    with pytest.warns(RuntimeWarning, match="did not start") as warned:
        worker = multiprocessing.get_context("fork").Process(target=os._exit, args=(7,))
        worker.start()
        worker.join(20)
    assert worker.exitcode == 7 and len(children) == 3 and len(warned) == 2


def test_leave_gloo_does_nothing_without_gloo():
    assert compat.leave_gloo() is None
