"""What mkdocs makes a site of: the pages where they lie in the clone, and the files they link to.

So a link is the same on the site as in the clone, and no page is there twice.
"""

import re
from pathlib import Path

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]


def on_files(files, config):
    pages = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
    paths = {*pages, *(path for path in (ROOT / "docs").rglob("*") if path.is_file())}
    for page in [path for path in paths if path.suffix == ".md"]:
        links = re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
        targets = {(page.parent / link).resolve() for link in links if "://" not in link}
        paths |= {path for path in targets if path.is_file() and ROOT in path.parents}
    names = sorted(path.relative_to(ROOT).as_posix() for path in paths)
    return Files([File(name, ROOT, config.site_dir, config.use_directory_urls) for name in names])
