"""What happens while mmagic is imported: as in ``compat.py``, for faults of its import statements.

mmagic's models are one package that imports all of its editors, and with them diffusers,
transformers, mediapipe and more, which no translation model uses.
"""

import builtins
import functools
import importlib.util
import sys
from abc import ABCMeta
from collections.abc import Callable
from importlib import metadata
from importlib.machinery import ModuleSpec
from types import FunctionType, ModuleType
from typing import Any

from packaging.specifiers import SpecifierSet

from .version import UNUSED


class StandIn(ABCMeta):
    """The type of what stands for a package, and for everything in it: classes without instances.

    mmagic derives classes from them and decorates functions with them while it is imported, so
    these work. Calling one, or a class derived from one, says what is missing.
    """

    def __new__(cls, name: str, bases: tuple = (), namespace: dict | None = None, **kwargs):
        return super().__new__(cls, name, bases, namespace or {}, **kwargs)

    def __getattr__(cls, name: str) -> Any:
        # Only of stand-ins themselves: a class derived from one has what it has.
        if "_stands_for" not in vars(cls) or name.startswith("__"):
            raise AttributeError(f"'{cls.__name__}' has no attribute '{name}'")
        if name.startswith("is_"):  # whether something is installed, as diffusers.utils asks
            return lambda *args: False
        part = StandIn(name, (), {"_stands_for": cls._stands_for, "__module__": cls.__module__})
        setattr(cls, name, part)
        return part

    def __dir__(cls) -> list:
        return []  # mmagic registers what diffusers has; this has nothing of itself

    def __call__(cls, *args, **kwargs):
        if len(args) == 1 and isinstance(args[0], FunctionType) and not kwargs:
            return args[0]  # It decorates.
        raise RuntimeError(f"'{cls.__name__}' of mmagic needs {cls._stands_for}.")


def _stand_in(package: str, reason: str) -> StandIn:
    return StandIn(package, (), {"_stands_for": reason, "__module__": package})


def missing_packages() -> "dict[str, StandIn]":
    """A stand-in for each package that mmagic needs and cannot import, or only with another one."""
    missing = {}
    for group in UNUSED:
        found = {}
        for name, bounds in group.items():
            if importlib.util.find_spec(name) is None:
                found[name] = f"{name}{bounds}, which is not installed"
                continue
            version = metadata.version(name) if bounds else ""
            if bounds and not SpecifierSet(bounds).contains(version, prereleases=True):
                found[name] = f"{name}{bounds}, but {name} {version} is installed"
        if found:
            reason = " and ".join(found.values())
            missing.update({name: _stand_in(name, found.get(name, reason)) for name in group})
    return missing


class _Imports:
    """Finds mmagic's modules as everybody else does, but runs them in its own way."""

    #: How one knows another, also of a second copy of this file.
    runs_mmagic = True

    def __init__(self, missing: "dict[str, StandIn]"):
        self.missing = missing
        self.after: dict[str, list[Callable]] = {}

    def find_spec(self, name: str, path=None, target=None) -> ModuleSpec | None:
        if name.partition(".")[0] != "mmagic":
            return None
        for finder in sys.meta_path:
            if finder is self or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                if spec.loader is not None:
                    run = functools.partial(self.run, spec.loader.exec_module)
                    spec.loader.exec_module = run
                return spec
        return None

    def run(self, exec_module: Callable, module: ModuleType) -> None:
        if self.missing:
            # Python looks up __import__ here, for the statements of this one module.
            module.__builtins__ = {**vars(builtins), "__import__": self.import_module}
        exec_module(module)
        for mend in self.after.pop(module.__name__, ()):
            mend(module)

    def import_module(self, name, globals=None, locals=None, fromlist=(), level=0):
        found = None if level else self.missing.get(name.partition(".")[0])
        if found is None:
            return builtins.__import__(name, globals, locals, fromlist, level)
        if fromlist:
            for part in name.split(".")[1:]:
                found = getattr(found, part)
        return found

    def call(self, module: str, mend: Callable) -> None:
        """Call ``mend(module)`` once mmagic's module of this name has run, now or later."""
        if module in sys.modules:
            mend(sys.modules[module])
        else:
            self.after.setdefault(module, []).append(mend)


def _installed() -> _Imports | None:
    return next((f for f in sys.meta_path if getattr(f, "runs_mmagic", False)), None)


def stand_in_for_unused_packages() -> bool:
    """Let ``import mmagic`` succeed without the packages that none of its translation models uses.

    mmagic imports them at start-up, though most of its models do without
    (https://github.com/open-mmlab/mmagic/issues/2040), and imports names that newer releases no
    longer have. Where one is missing, or of a release that mmagic cannot import, mmagic's own
    import statements get a :class:`StandIn`; nobody else sees it, and nothing is done for the
    others. Can go when mmagic imports its editors lazily.
    """
    if _installed() is not None:
        return False
    imports = _Imports(missing_packages())
    sys.meta_path.insert(0, imports)
    if imports.missing:
        imports.call("mmagic.utils.setup_env", functools.partial(_try_import, imports))
    return bool(imports.missing)


def _try_import(imports: _Imports, module: ModuleType) -> None:
    """Let mmagic's own ``try_import`` find what its import statements do."""
    real = module.try_import

    def try_import(name: str):
        if name.partition(".")[0] in imports.missing:
            return imports.import_module(name, fromlist=("",))
        return real(name)

    module.try_import = try_import


def after_import(module: str, mend: Callable) -> None:
    """Call ``mend(module)`` when this module of mmagic has been imported, or now if it has been."""
    _installed().call(module, mend)
