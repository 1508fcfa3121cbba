"""What pip installs: the package, and under .mim what OpenMMLab's tools look for."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml
from mmengine.config import Config
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from PIL import Image

from spynco_mm.version import SUPPORTED, __version__

ROOT = Path(__file__).parents[1]
SHIPPED = ("configs", "tools")
COMMANDS = ("colorize", "demo", "export", "prepare_data", "test", "train")


def requirement_lines(name):
    lines = (ROOT / "requirements" / f"{name}.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def files(folder):
    return {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


# What is installed, in one process, since imports take seconds: the command's tool runs in it.
INSTALLED = """
import os, runpy, sys
from mmengine import hub
from mmengine.config import Config
from mmengine.infer import BaseInferencer
import spynco_mm

open("mine.py", "w").write("_base_ = ['spynco_mm::spynco_demo.py']")
assert Config.fromfile("mine.py").model.type == "SpyncoGAN"
assert "spynco_demo" in BaseInferencer.list_models("spynco_mm")
print(hub.get_config("spynco_mm::spynco_demo").filename, flush=True)

def become(program, command):
    sys.argv[:] = command[1:]
    sys.path.insert(0, os.path.dirname(command[1]))
    runpy.run_path(command[1], run_name="__main__")

os.execv = become
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""

# What the commands become, without becoming it.
STARTED = """
import os, sys
from importlib.metadata import distribution

os.execv = lambda program, command: print(program == sys.executable, *command[1:])
sys.argv[1:] = ["a b", "--c"]
for entry in distribution("spynco_mm").entry_points:
    entry.load()()
assert not {"spynco_mm", "torch"} & set(sys.modules)
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A clone: building writes into the folder it is called in."""
    names = (".git", ".venv", ".mim", "data", "work_dirs", "build", "*.egg-info", ".*_cache")
    folder = tmp_path_factory.mktemp("clone") / "tree"
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*names, ".dist_test"))
    return folder


@pytest.fixture(scope="module")
def wheel(tree, tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    return folder / build(tree, "build_wheel", str(folder))


def build(tree, hook, *args):
    """Call a hook of the build back end, as pip does; returns what it wrote."""
    code = f"import setuptools.build_meta as b; print(b.{hook}(*{args!r}))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tree, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()[-1]


def outside(folder, *command):
    """What a command prints in a folder that is no clone, with what is installed there."""
    env = {**os.environ, "PYTHONPATH": str(folder / "installed")}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_wheel(tree, wheel, tmp_path, tiny_checkpoint):
    install = ("pip", "install", "--quiet", "--no-deps", "--no-index", "--no-compile", "--target")
    outside(tmp_path, sys.executable, "-m", *install, "installed", str(wheel))
    with zipfile.ZipFile(wheel) as archive:
        metadata = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        about = archive.read(metadata).decode()
    package = tmp_path / "installed" / "spynco_mm"
    for folder in SHIPPED:
        assert files(package / ".mim" / folder) == files(tree / folder)
    assert files(tree / "spynco_mm") <= files(package)
    assert (package / ".mim" / "model-index.yml").read_text() == (
        tree / "model-index.yml"
    ).read_text()
    # Nothing beside the package: no tests, no configs at the top of site-packages.
    top = {path.name for path in (tmp_path / "installed").iterdir()}
    assert top == {"bin", "spynco_commands", "spynco_mm", Path(metadata).parts[0]}

    lines = about.splitlines()
    assert f"Version: {__version__}" in lines
    assert "Author: spynco_mm maintainers" in lines
    python = next(line.split(": ")[1] for line in lines if line.startswith("Requires-Python"))
    assert SpecifierSet(python) == SpecifierSet(">=3.10,<3.13")
    required = [
        Requirement(line.split(": ")[1]) for line in lines if line.startswith("Requires-Dist")
    ]
    extras = ("", "lite", "full", "slim", "onedl", "export", "demo", "reproduce", "tests")
    specifiers = {r.name: r.specifier for r in required}
    for group in SUPPORTED:
        for name, bounds in group.items():
            assert specifiers[name] == SpecifierSet(bounds)
    wanted = {
        "torch": extras,  # of every installation
        "mmengine": ["lite", "full", "slim"],
        # Not where it is installed without what it requires, which pip would add.
        "mmagic": ["lite", "full"],
        "mmcv-lite": ["lite", "slim"],
        "mmcv": ["full"],
        "onedl-mmcv": ["onedl"],
        "requests": ["slim", "onedl"],
        "onnx": ["export", "tests"],
        "pycirclize": ["reproduce", "tests"],
        "pytest": ["tests"],
    }
    for name, of in wanted.items():
        markers = [r.marker for r in required if r.name == name]
        found = [e for e in extras if any(m is None or m.evaluate({"extra": e}) for m in markers)]
        assert found == list(of), name
    commands = sorted(path.name for path in (tmp_path / "installed" / "bin").iterdir())
    assert commands == [f"spynco-{name.replace('_', '-')}" for name in COMMANDS]
    tools = [package / ".mim" / "tools" / f"{name}.py" for name in COMMANDS]
    started = outside(tmp_path, sys.executable, "-c", STARTED).splitlines()
    assert sorted(started) == [f"True {tool} a b --c" for tool in tools]
    assert all(tool.is_file() for tool in tools)
    Image.new("L", (20, 16), 99).save(tmp_path / "old.png")
    script = str(tmp_path / "installed" / "bin" / "spynco-colorize")
    options = (script, str(tiny_checkpoint), "old.png", "--out", "colored")
    said = outside(tmp_path, sys.executable, "-c", INSTALLED, *options)
    # The installed package, and no clone, is what names lead to.
    assert str(package / ".mim" / "configs" / "spynco_demo.py") in said.splitlines()
    assert "1 done" in said and (tmp_path / "colored" / "old.png").is_file()


def test_editable_install_links_to_the_clone(tree, tmp_path):
    build(tree, "build_editable", str(tmp_path))
    mim = tree / "spynco_mm" / ".mim"
    for name in (*SHIPPED, "model-index.yml"):
        assert (mim / name).is_symlink() and (mim / name).resolve() == (tree / name).resolve()
    # Building a wheel afterwards ships files all the same.
    wheel = tmp_path / build(tree, "build_wheel", str(tmp_path))
    with zipfile.ZipFile(wheel) as archive:
        assert "spynco_mm/.mim/configs/spynco_demo.py" in archive.namelist()


def test_source_distribution_builds_the_same_wheel(tree, wheel, tmp_path):
    shutil.unpack_archive(tmp_path / build(tree, "build_sdist", str(tmp_path)), tmp_path / "source")
    (source,) = (tmp_path / "source").iterdir()
    names = []
    for path in (wheel, tmp_path / build(source, "build_wheel", str(tmp_path))):
        with zipfile.ZipFile(path) as archive:
            names.append(set(archive.namelist()))
    assert names[0] == names[1]
    for name in ("CONTRIBUTING.md", "CHANGELOG.md", "CITATION.cff", "LICENSE", "docs/colorize.md"):
        assert (source / name).is_file(), name
    for name in ("reproduction/configs/small.py", "benchmark/worker.py"):
        assert any(path.endswith(f".mim/tools/{name}") for path in names[1]), name


def test_model_index_lists_every_config():
    index = yaml.safe_load((ROOT / "model-index.yml").read_text())
    (metafile,) = index["Import"]
    meta = yaml.safe_load((ROOT / metafile).read_text())
    collections = {collection["Name"]: collection for collection in meta["Collections"]}
    assert all((ROOT / collection["README"]).is_file() for collection in collections.values())
    listed = {model["Config"]: model["Name"] for model in meta["Models"]}
    configs = ROOT / "configs"
    files = [*configs.glob("*.py"), *configs.glob("ablations/*.py")]
    assert listed == {str(path.relative_to(ROOT)): path.stem for path in files}
    assert {model["In Collection"] for model in meta["Models"]} == set(collections)
    for config in configs.glob("ablations/*.py"):  # the others: tests/test_configs.py
        assert Config.fromfile(config, import_custom_modules=False).model.type


def test_model_index_has_the_measured_results():
    (metafile,) = yaml.safe_load((ROOT / "model-index.yml").read_text())["Import"]
    models = yaml.safe_load((ROOT / metafile).read_text())["Models"]
    found = {model["Name"]: model["Results"] for model in models if "Results" in model}
    runs = json.loads((ROOT / "docs" / "results.json").read_text())["runs"]
    for variant in ("spynco", "exact", "colcycle", "cyclegan"):
        (run,) = (run for run in runs if (run["variant"], run["seed"]) == (variant, 0))
        name = f"{variant.replace('exact', 'spynco_exact')}_cifar10"
        for score, value in found[name][0]["Metrics"].items():
            assert value == pytest.approx(run["G1"][score][-1], rel=3e-3), (name, score)


def test_constraints_fit_the_requirements():
    lines = [line for f in ("runtime", "tests", "export") for line in requirement_lines(f)]
    lines += [name + bounds for group in SUPPORTED for name, bounds in group.items()]
    required = {r.name: r.specifier for r in map(Requirement, lines)}
    pins = {r.name: r.specifier for r in map(Requirement, requirement_lines("constraints"))}
    forks = {"onedl-mmengine", "onedl-mmcv"}  # which bring the same modules
    assert {name for group in SUPPORTED for name in group} - forks <= set(pins)
    for name, pin in pins.items():
        exact = [s.version for s in pin if s.operator == "=="]
        if exact and name in required:
            assert required[name].contains(exact[0]), f"constraints.txt pins {name}{pin}"


def test_the_environment_check_knows_the_family(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    import check_env

    real = check_env.metadata.version
    monkeypatch.setattr(
        check_env.metadata, "version", lambda name: "1.9" if name.startswith("mmcv") else real(name)
    )
    (problem,) = check_env.problems(["runtime"])
    assert problem == (
        "mmcv>=2.0,<2.2 or mmcv-lite>=2.0,<2.2 or onedl-mmcv>=2.3,<2.4: "
        "mmcv 1.9 is installed, mmcv-lite 1.9 is installed"
    )


def test_the_citation_is_of_this_release():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert str(citation["version"]) == __version__
