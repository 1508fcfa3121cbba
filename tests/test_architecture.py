"""Who may use whom: arrows point down, there is no circle, and no file is too long to be held."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "spynco_mm"
FILES = {path: path.relative_to(ROOT).with_suffix("").parts for path in PACKAGE.rglob("*.py")}
FILES = {path: parts for path, parts in FILES.items() if ".mim" not in parts}
MODULES = {".".join(parts).removesuffix(".__init__"): path for path, parts in FILES.items()}

#: A part of the package may use itself and these.
FOUNDATION = {"utils", "compat", "version"}
BELOW = {
    "version": set(),
    "compat": {"compat_hooks", "compat_imports", "compat_names", "version"},
    "compat_hooks": set(),
    "compat_imports": {"version"},
    "compat_names": set(),
    "utils": {"compat", "version"},
    "models": FOUNDATION,
    "datasets": FOUNDATION | {"models"},
    "evaluation": FOUNDATION | {"models"},
    "visualization": FOUNDATION | {"models"},
    "engine": FOUNDATION | {"compat_names", "models", "datasets", "evaluation", "visualization"},
    "apis": FOUNDATION | {"compat_names", "models", "datasets", "evaluation", "visualization"},
}


def imports(path: Path, name: str):
    """Modules of ours that a file imports, each with its line and whether a function does it."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    tree = ast.parse(path.read_text())
    inside = {
        node
        for function in ast.walk(tree)
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([base] if base else [])])
            found = [f"{base}.{alias.name}" for alias in node.names]
            found = [name if name in MODULES else base for name in found]
        else:
            continue
        for target in found:
            if target.split(".")[0] == "spynco_mm":
                yield target, node.lineno, node in inside


GRAPH = {name: sorted(imports(path, name)) for name, path in MODULES.items() if name != "spynco_mm"}


def part(module: str) -> str:
    return module.split(".")[1]


def test_every_part_has_its_place():
    assert {part(name) for name in GRAPH} == set(BELOW)
    assert len(GRAPH) > 30 and sum(map(len, GRAPH.values())) > 60


def test_arrows_point_down():
    wrong = [
        f"{name}:{line} imports {target}"
        for name, found in GRAPH.items()
        for target, line, _ in found
        if target != "spynco_mm" and part(target) not in BELOW[part(name)] | {part(name)}
    ]
    wrong += [
        f"{name}:{line} imports the package itself"
        for name, found in GRAPH.items()
        for target, line, _ in found
        if target == "spynco_mm"
    ]
    assert not wrong, "\n".join(wrong)


def test_there_is_no_circle():
    """Also not among the modules of one part; a package is what its ``__init__`` imports."""
    done, path = set(), []

    def visit(name):
        assert name not in path, " → ".join([*path[path.index(name) :], name])
        if name in done or name not in GRAPH:
            return
        path.append(name)
        for target, _, _ in GRAPH[name]:
            visit(target)
        path.pop()
        done.add(name)

    for name in GRAPH:
        visit(name)


def test_no_function_imports_what_is_ours():
    hidden = [f"{n}:{line}" for n, found in GRAPH.items() for _, line, inside in found if inside]
    assert not hidden, f"Imported inside a function: {', '.join(hidden)}"


def test_the_package_does_not_use_its_tools():
    names = {path.stem for path in (ROOT / "tools").iterdir() if path.suffix in ("", ".py")}
    names -= {"test"}  # also the name of a module of Python
    for path in MODULES.values():
        for node in ast.walk(ast.parse(path.read_text())):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                modules = [node.module]
            assert not names & {module.split(".")[0] for module in modules}, path


@pytest.mark.parametrize("name", MODULES)
def test_no_file_is_longer_than_450_lines(name):
    assert len(MODULES[name].read_text().splitlines()) <= 450


def test_only_operations_ask_what_computes_them():
    """Which device, precision or compiler is at work is up to models/ops."""
    questions = {
        "is_cuda",
        "is_cpu",
        "is_compiling",
        "is_tracing",
        "is_autocast_enabled",
        "autocast",
    }
    for path in (PACKAGE / "models").glob("*.py"):
        names = {
            n.attr for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Attribute)
        }
        assert not names & (questions | {"cuda"}), path
