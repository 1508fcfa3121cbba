"""Say whether the running interpreter has the packages that requirements/ asks for.

    python tools/check_env.py [NAME ...]     NAME: a file of requirements/, default: runtime

Exits with 0 if so, else with 1 and a line for each package that is missing or does not fit.
"""

import sys
from importlib import metadata
from pathlib import Path

try:
    from packaging.requirements import Requirement
except ImportError:  # before anything is installed
    from pip._vendor.packaging.requirements import Requirement

# Either build of mmcv will do, which a requirements file cannot say.
MMCV = ("mmcv>=2.0,<2.2", "mmcv-lite>=2.0,<2.2")


def problem(*options: str) -> str:
    """What is wrong if none of these requirements is met; empty if one is."""
    found = []
    for requirement in map(Requirement, options):
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            continue
        if requirement.specifier.contains(version, prereleases=True):
            return ""
        found.append(f"{requirement.name} {version} is installed")
    return f"{' or '.join(options)}: {', '.join(found) or 'not installed'}"


def problems(names: list) -> list:
    """One line for each requirement of these files that is not met."""
    folder = Path(__file__).resolve().parents[1] / "requirements"
    lines = [line for name in names for line in (folder / f"{name}.txt").read_text().split("\n")]
    lines = [(line.split("#")[0].strip(),) for line in lines]
    checks = [problem(*options) for options in [MMCV, *lines] if options[0]]
    return [check for check in checks if check]


if __name__ == "__main__":
    missing = problems(sys.argv[1:] or ["runtime"])
    print("\n".join(missing))
    sys.exit(bool(missing))
