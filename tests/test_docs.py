"""What the documentation names is there, and what is there is named."""

import inspect
import re
from pathlib import Path

import mmagic.registry
import mmengine.registry
import numpy as np
import pytest
from mmagic.registry import DATASETS
from mmengine.registry import Registry
from PIL import Image

import spynco_mm  # noqa: F401
from spynco_mm import apis
from spynco_mm.engine import launch

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
PAGES += sorted((ROOT / "docs").glob("*.md"))

REGISTRIES = [*vars(mmagic.registry).values(), *vars(mmengine.registry).values()]
REGISTERED = [
    (name, component)
    for registry in {id(r): r for r in REGISTRIES if isinstance(r, Registry)}.values()
    for name, component in registry.module_dict.items()
    if component.__module__.startswith("spynco_mm.")
]


def api_rows() -> "tuple[list, list]":
    """The rows of the tables on the API page, of the part for configs and of that for Python."""
    text = (ROOT / "docs" / "api.md").read_text()
    config, python = text.split("## In Python")
    cells = [re.findall(r"^\| `(\w+)` \|.*\|(.*)\|$", part, re.M) for part in (config, python)]
    return cells[0], cells[1]


def test_every_registered_component_is_on_the_api_page():
    rows, _ = api_rows()
    assert sorted(name for name, _ in rows) == sorted(name for name, _ in REGISTERED)


def test_every_public_function_is_on_the_api_page():
    _, rows = api_rows()
    assert sorted(name for name, _ in rows) == sorted(apis.__all__)


def parameters(component) -> set:
    """Those of a function or class, and of the bases that its ``**kwargs`` go to."""
    bases = getattr(component, "__mro__", ())[1:]
    parts = [component, *(base for base in bases if base.__module__.startswith("spynco_mm."))]
    return {name for part in parts for name in inspect.signature(part).parameters}


def test_the_arguments_on_the_api_page_exist():
    configs, python = api_rows()
    for name, cell in [*configs, *python]:
        cell = re.sub(r"\(.*?\)|(and )?those of .*", "", cell)  # remarks, and other components
        if named := set(re.findall(r"`(\w+)`", cell)):
            parts = [part for key, part in REGISTERED if key == name] or [getattr(apis, name)]
            assert named <= set().union(*map(parameters, parts)), name


def anchors(page: Path) -> set:
    """The anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
    headings = re.findall(r"^#+ (.*)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name}: {link}"
        assert not anchor or anchor in anchors(target), f"{page.name}: {link}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_are_named_exist(page):
    named = re.findall(
        r"(?<![\w./-])(?:tools|configs|tests|docs|spynco_mm|requirements)/[\w./*-]*",
        page.read_text(),
    )
    for name in named:
        name = name.rstrip(".")
        assert list(ROOT.glob(name)) if "*" in name else (ROOT / name).exists(), name


def test_options_of_tools_exist():
    """Of every tool's command in the documentation."""
    for page in PAGES:
        for block in re.findall(r"^```bash\n(.*?)^```", page.read_text(), re.M | re.S):
            for line in block.replace("\\\n", " ").splitlines():
                command = re.search(r"python (tools/\w+\.py)(.*)", line.split("  #")[0])
                if not command:
                    continue
                source = (ROOT / command[1]).read_text()
                source += (ROOT / "spynco_mm/utils/console.py").read_text()
                source += (ROOT / "spynco_mm/engine/launch.py").read_text()
                for option in re.findall(r"(?<= )--[a-z-]+", command[2]):
                    assert f'"{option}"' in source, f"{page.name}: {line}"


def test_the_site_is_built_without_a_warning(tmp_path):
    mkdocs = pytest.importorskip("mkdocs.commands.build")
    from mkdocs.config import load_config

    site = tmp_path / "site"
    config = load_config(str(ROOT / ".ci" / "mkdocs.yml"), site_dir=str(site), strict=True)
    mkdocs.build(config)
    for page in PAGES[1:]:
        assert (site / page.relative_to(ROOT).with_suffix(".html")).is_file(), page
    assert 'href="docs/colorize.html#from-the-shell"' in (site / "index.html").read_text()


def test_the_readmes_command_for_a_folder_of_ones_own(tmp_path):
    readme = (ROOT / "README.md").read_text()
    command = r"^D=(\S+)=/home/me/pictures.*\npython tools/train.py (\S+) --cfg-options (.*)$"
    key, config, words = re.search(command, readme, re.M).groups()
    pictures = tmp_path / "pictures"
    (pictures / "album").mkdir(parents=True)
    for i in range(10):
        pixels = np.random.default_rng(i).integers(0, 256, (40, 50, 3), np.uint8)
        Image.fromarray(pixels).save(pictures / "album" / f"{i}.png")
    options = {word.replace("$D", key): str(pictures) for word in words.split()}
    cfg = launch.load_config(str(ROOT / config), str(tmp_path / "run"), options)
    datasets = [DATASETS.build(cfg[f"{part}_dataloader"].dataset) for part in ("train", "val")]
    assert [len(dataset) for dataset in datasets] == [8, 2]
    assert [file.name for file in pictures.glob("*.json")] == ["split_seed0_0.8.json"]
    assert "`split_seed0_0.8.json`" in readme
