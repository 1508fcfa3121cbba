"""Say whether the running interpreter has mmagic's family and what requirements/ asks for.

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

ROOT = Path(__file__).resolve().parents[1]


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
    """One line for each requirement of the package and of these files that is not met."""
    about = {}  # Without importing the package, which imports mmagic.
    exec((ROOT / "spynco_mm" / "version.py").read_text(), about)
    wanted = [[n + bounds for n, bounds in group.items()] for group in about["SUPPORTED"]]
    for name in names:
        lines = (ROOT / "requirements" / f"{name}.txt").read_text().splitlines()
        wanted += [[line] for line in (line.split("#")[0].strip() for line in lines) if line]
    checks = [problem(*options) for options in wanted]
    return [check for check in checks if check]


if __name__ == "__main__":
    missing = problems(sys.argv[1:] or ["runtime"])
    print("\n".join(missing))
    sys.exit(bool(missing))
