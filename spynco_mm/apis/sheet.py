"""A contact sheet: small pictures of what came out, grey beside colour."""

import base64
import functools
import html
import io
import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import numpy as np
from matplotlib import font_manager, ft2font
from PIL import Image, ImageDraw, ImageFont

from spynco_mm.utils.console import printable
from spynco_mm.utils.files import check_writable, write_atomically
from spynco_mm.visualization import save_png

from .jobs import Report
from .planning import Job

THUMBNAIL = 160
#: A PNG with more rows would be refused by many viewers.
MAX_PNG_PICTURES = 1000
#: Pictures that every browser shows; a link to another would only be downloaded.
SHOWN_BY_BROWSERS = (".jfif", ".jpe", ".jpeg", ".jpg", ".png", ".webp")
GAP, LINE = 12, 16

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>
body {{ font: 14px system-ui, sans-serif; margin: 24px; color: #262626; }}
main {{ display: flex; flex-wrap: wrap; gap: 20px; }}
figure {{ margin: 0; }} figcaption {{ margin-top: 4px; overflow-wrap: anywhere; }}
.failed {{ color: #a40000; max-width: 480px; overflow-wrap: anywhere; }}
</style>
<h1>{title}</h1><p>{summary}</p><main>
{figures}
</main></html>
"""


@functools.cache
def _font() -> "tuple[ImageFont.FreeTypeFont, frozenset]":
    """matplotlib's own font, and the characters it has."""
    path = font_manager.findfont("DejaVu Sans")
    return ImageFont.truetype(path, 12), frozenset(ft2font.FT2Font(path).get_charmap())


def _drawable(text: str) -> str:
    """The text, with what the font has no glyph for escaped."""
    return "".join(
        c if ord(c) in _font()[1] else c.encode("unicode_escape").decode() for c in printable(text)
    )


def _lines(text: str, width: int) -> list[str]:
    """A text broken into lines, at spaces where there are some, and shown whole."""
    font, lines = _font()[0], [""]
    for word in _drawable(text).split(" "):
        joined = f"{lines[-1]} {word}".strip()
        if font.getlength(joined) <= width:
            lines[-1] = joined
            continue
        lines.append("")
        for character in word:
            if font.getlength(lines[-1] + character) > width:
                lines.append("")
            lines[-1] += character
    return [line for line in lines if line]


def _error(job: Job, report: Report) -> str:
    """How far the grey of what was written is off, if it is known."""
    errors = [report.grey_errors[file] for file in job.targets if file in report.grey_errors]
    return f", |H_t(O) − I| ≤ {max(errors):.2f}" if errors else ""


class ContactSheet:
    """Collects thumbnails while pictures are colorized, and becomes a PNG or an HTML file.

    Args:
        path: The file to write, ``.png`` or ``.html``. HTML stands alone: it has the thumbnails in
            it, and links to the results that a browser can show.
        columns: How many pictures stand in a row of a PNG.

    Raises:
        ValueError: The file's name ends otherwise.
    """

    def __init__(self, path: Path, columns: int = 4):
        self.path, self.columns = Path(path), columns
        if self.path.suffix.lower() not in (".png", ".html"):
            raise ValueError(f"A contact sheet is a .png or .html file, not '{path}'.")
        self._thumbnails: dict = {}

    def check(self, jobs: Sequence[Job], keep: Sequence[Path] = ()) -> None:
        """Make sure that the sheet of these jobs can be written, before they are done.

        Args:
            jobs: All of them.
            keep: Further files that it may not replace.

        Raises:
            ValueError: There are more pictures than a PNG should have, the sheet would replace a
                source or a result, or its file cannot be written.
        """
        if self.path.suffix.lower() == ".png" and len(jobs) > MAX_PNG_PICTURES:
            raise ValueError(
                f"A contact sheet of {len(jobs)} pictures is too large for a PNG; name an .html "
                "file instead."
            )
        others = (*keep, *(file for job in jobs for file in (job.source, *job.files)))
        if self.path.resolve() in {Path(os.path.realpath(file)) for file in others}:
            raise ValueError(
                f"The sheet {self.path} has the name of a source or a result; change it."
            )
        check_writable(self.path)

    def add(self, job: Job, pixels: np.ndarray) -> None:
        """Keep a small copy of a picture, H×W×3 bytes; may be called from any thread."""
        image = Image.fromarray(pixels)
        image.thumbnail((8 * THUMBNAIL, THUMBNAIL))
        buffer = io.BytesIO()  # as a file, since there may be many
        image.save(buffer, "JPEG", quality=90)
        self._thumbnails[job] = buffer.getvalue()

    def save(self, jobs: Sequence[Job], report: Report) -> None:
        """Write the sheet, in the order of the jobs; failed ones appear with their reason, and
        those that were not tried do not.
        """
        jobs = [job for job in jobs if job in report.failed or job in self._thumbnails]
        if self.path.suffix.lower() == ".html":
            self._save_html(jobs, report)
        else:
            self._save_png(jobs, report)

    def _save_html(self, jobs: Sequence[Job], report: Report) -> None:
        figures = []
        for job in jobs:
            name = html.escape(printable(job.source))
            if job in report.failed:
                reason = html.escape(printable(report.failed[job]))
                figures.append(f'<figure class="failed">{name}<br>{reason}</figure>')
                continue
            data = base64.b64encode(self._thumbnails[job]).decode()
            picture = f'<img src="data:image/jpeg;base64,{data}" alt="{name}">'
            target = job.targets[0]
            if target.suffix.lower() in SHOWN_BY_BROWSERS:
                link = Path(os.path.relpath(target, self.path.parent)).as_posix()
                picture = f'<a href="{quote(os.fsencode(link))}">{picture}</a>'
            figures.append(
                f"<figure>{picture}<figcaption>{name}{_error(job, report)}</figcaption></figure>"
            )
        failed = sum(job in report.failed for job in jobs)
        summary = f"{len(jobs) - failed} pictures, {failed} failed."
        page = PAGE.format(title="Colorized pictures", summary=summary, figures="\n".join(figures))
        write_atomically(self.path, page.encode())

    def _save_png(self, jobs: Sequence[Job], report: Report) -> None:
        images = {j: Image.open(io.BytesIO(data)) for j, data in self._thumbnails.items()}
        width = max([2 * THUMBNAIL, *(image.width for image in images.values())])
        captions = []
        for job in jobs:
            reason = report.failed.get(job)
            text = job.source.name + (f": {reason}" if reason else _error(job, report))
            captions.append(_lines(text, width))
        rows = [
            range(i, min(i + self.columns, len(jobs))) for i in range(0, len(jobs), self.columns)
        ]
        # A row is as high as its longest caption needs.
        heights = [THUMBNAIL + LINE * max(len(captions[i]) for i in row) + GAP for row in rows]
        columns = max(1, min(self.columns, len(jobs)))
        canvas = Image.new("RGB", (GAP + columns * (width + GAP), GAP + sum(heights)), "white")
        draw = ImageDraw.Draw(canvas)
        top = GAP
        for row, height in zip(rows, heights):
            for column, i in enumerate(row):
                left = GAP + column * (width + GAP)
                if jobs[i] in report.failed:
                    frame = [left, top, left + width - 1, top + THUMBNAIL - 1]
                    draw.rectangle(frame, outline="#a40000")
                else:
                    canvas.paste(images[jobs[i]], (left, top))
                for number, line in enumerate(captions[i]):
                    place = (left, top + THUMBNAIL + 3 + number * LINE)
                    draw.text(place, line, fill=(38, 38, 38), font=_font()[0])
            top += height
        save_png(np.asarray(canvas), self.path)
