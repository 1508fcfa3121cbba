import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
#: What OpenMMLab's package manager looks for under <package>/.mim.
MIM = ("configs", "tools", "model-index.yml")
#: Tools that become commands; see tools/commands.
COMMANDS = ("colorize", "demo", "export", "prepare_data", "test", "train")


def requirements(name: str) -> list:
    lines = (ROOT / "requirements" / f"{name}.txt").read_text().splitlines()
    return [line for line in (line.split("#")[0].strip() for line in lines) if line]


ABOUT = {}
exec((ROOT / "spynco_mm" / "version.py").read_text(), ABOUT)
FAMILY = {name: name + bounds for group in ABOUT["SUPPORTED"] for name, bounds in group.items()}


class BuildWithMim(build_py):
    """Ship configs, tools and the model index inside the package; link them if it is editable."""

    def run(self) -> None:
        super().run()
        editable = getattr(self, "editable_mode", False)
        folder = (ROOT if editable else Path(self.build_lib)) / "spynco_mm" / ".mim"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name in MIM:
            source = ROOT / name
            if editable:
                (folder / name).symlink_to(source, target_is_directory=source.is_dir())
            elif source.is_dir():
                ignore = shutil.ignore_patterns("__pycache__")
                shutil.copytree(source, folder / name, ignore=ignore)
            else:
                shutil.copy2(source, folder / name)


setup(
    name="spynco_mm",
    version=ABOUT["__version__"],
    description="SpyncoGan, unsupervised colorization with Handcrafted Translation and Output "
    "Spatial Pyramids, for OpenMMLab's mmagic",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache License 2.0",
    author="spynco_mm maintainers",
    url="https://doi.org/10.1145/3347317.3357243",  # of the paper
    packages=[*find_packages(include=["spynco_mm", "spynco_mm.*"]), "spynco_commands"],
    package_dir={"spynco_commands": "tools/commands"},
    entry_points={
        "console_scripts": [
            f"spynco-{name.replace('_', '-')} = spynco_commands:{name}" for name in COMMANDS
        ]
    },
    python_requires=">=3.10,<3.13",
    install_requires=[FAMILY["torch"], *requirements("runtime")],
    extras_require={
        # One of these four is needed. The last two go with 'pip install --no-deps mmagic', which is
        # the only way to leave out what mmagic requires.
        "lite": [FAMILY[name] for name in ("mmengine", "mmcv-lite", "mmagic")],
        "full": [FAMILY[name] for name in ("mmengine", "mmcv", "mmagic")],
        "slim": [FAMILY["mmengine"], FAMILY["mmcv-lite"], *requirements("slim")],
        "onedl": [FAMILY["onedl-mmengine"], FAMILY["onedl-mmcv"], *requirements("slim")],
        "export": requirements("export"),
        "demo": requirements("demo"),
        "heif": requirements("heif"),
        "video": requirements("video"),
        "reproduce": requirements("reproduce"),
        "tests": [
            line
            for name in ("tests", "export", "demo", "heif", "video", "reproduce")
            for line in requirements(name)
        ],
    },
    cmdclass={"build_py": BuildWithMim},
    classifiers=[
        "Development Status :: 4 - Beta",
        "License :: OSI Approved :: Apache Software License",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
