"""mmagic without the packages that its translation models do not use."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from torch import nn

from spynco_mm.compat_imports import _stand_in
from spynco_mm.version import UNUSED

ROOT = Path(__file__).parents[1]

# In a process that has diffusers, but one that is too new, and none of the others.
CODE = """
import importlib.util, sys, warnings
warnings.simplefilter("ignore", FutureWarning)
from pathlib import Path

absent = sys.argv[1].split()
assert not [name for name in absent if importlib.util.find_spec(name)]
assert importlib.util.find_spec("diffusers")
if importlib.util.find_spec("mmcv._ext") is None:
    try:  # what mmagic does at start-up
        import mmcv.ops
    except ModuleNotFoundError as error:
        assert error.name == "mmcv._ext"
    else:
        raise AssertionError("mmcv does without its operators")
import spynco_mm
import mmagic.apis, mmagic.datasets, mmagic.evaluation, mmagic.visualization
from mmengine.optim.optimizer.builder import TRANSFORMERS_OPTIMIZERS

# Nobody else takes them for installed.
assert not [name for name in sys.modules if name.partition(".")[0] in {*absent, "diffusers"}]
assert TRANSFORMERS_OPTIMIZERS == []
assert not [name for name in absent if importlib.util.find_spec(name)]

from mmagic.models import UNet3DConditionMotionModel
from mmagic.models.archs.tokenizer import TokenizerWrapper
from mmagic.apis.inferencers.controlnet_animation_inferencer import HEDdetector

for use, words in [
    (UNet3DConditionMotionModel, "diffusers>=0.24,<0.25, but diffusers 0.42.1 is installed"),
    (lambda: TokenizerWrapper("a"), "transformers>=4.36,<4.47, which is not installed"),
    (lambda: HEDdetector.from_pretrained("a"), "controlnet_aux, which is not installed"),
]:
    try:
        use()
    except RuntimeError as error:
        assert words in str(error), error
    else:
        raise AssertionError(words)

from mmengine.registry import init_default_scope
from small_models import assert_trains, build, resting
from test_mixing import PATCH_D, RESNET_G, step_of, translation_model

init_default_scope("mmagic")
model = build()
assert_trains(model, step_of(model, ("generator", "discriminator")), still=resting(model))
model = translation_model("CycleGAN", RESNET_G, PATCH_D)
assert_trains(model, step_of(model), still=resting(model))
print("done")
"""


def test_models_train_without_unused_packages(tmp_path):
    names = [name for group in UNUSED for name in group]
    without = tmp_path / "site-packages"
    without.mkdir()
    for place in map(Path, sys.path):
        if place.name not in ("site-packages", "dist-packages"):
            continue
        for entry in place.iterdir():
            package = entry.name.partition("-")[0].partition(".")[0].lower()
            if package not in names and not (without / entry.name).exists():
                (without / entry.name).symlink_to(entry)
    # A release that mmagic cannot import; this one cannot be imported at all.
    (without / "diffusers").mkdir()
    (without / "diffusers" / "__init__.py").write_text("raise AssertionError('who asks?')")
    (without / "diffusers-0.42.1.dist-info").mkdir()
    metadata = "Metadata-Version: 2.1\nName: diffusers\nVersion: 0.42.1\n"
    (without / "diffusers-0.42.1.dist-info" / "METADATA").write_text(metadata)
    names.remove("diffusers")
    path = [ROOT, ROOT / "tests" / "models", without]
    done = subprocess.run(
        [sys.executable, "-S", "-c", CODE, " ".join(names)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))},
        cwd=tmp_path, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines()[-1] == "done"


def test_classes_of_a_stand_in():
    """What mmagic does with such packages while it is imported."""
    package = _stand_in("package", "package, which is not installed")
    assert (
        package.utils.Mixin is package.utils.Mixin
        and package.utils.is_xformers_available() is False
    )
    assert dir(package) == [] and not hasattr(package, "__all__")

    class Model(nn.Module, package.utils.Mixin):
        @package.register_to_config
        def forward(self, x: package.Config | None):
            return x

    @dataclass
    class Output(package.Output):
        sample: int

    assert Model.forward(None, 3) == 3 and not hasattr(Model, "device")
    for use in (Model, lambda: Output(1), package.load, lambda: package.Config(1, a=2)):
        with pytest.raises(RuntimeError, match=r" of mmagic needs package, which is not installed"):
            use()
