"""A contact sheet: small pictures of what came out, grey beside colour."""

import base64
import html
import io
import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import numpy as np
from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont

from spynco_mm.utils.files import write_atomically
from spynco_mm.visualization import save_png

from .jobs import Job, Report

THUMBNAIL = 160
#: A PNG with more rows would be refused by many viewers.
MAX_PNG_PICTURES = 1000

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>
body {{ font: 14px system-ui, sans-serif; margin: 24px; color: #262626; }}
main {{ display: flex; flex-wrap: wrap; gap: 20px; }}
figure {{ margin: 0; }} figcaption {{ margin-top: 4px; overflow-wrap: anywhere; }}
.failed {{ color: #a40000; }}
</style>
<h1>{title}</h1><p>{summary}</p><main>
{figures}
</main></html>
"""


class ContactSheet:
    """Collects thumbnails while pictures are colorized, and becomes a PNG or an HTML file.

    Args:
        path: The file to write, ``.png`` or ``.html``. HTML stands alone: it has the thumbnails in
            it, and links to the results.
        columns: How many pictures stand in a row of a PNG.

    Raises:
        ValueError: The file's name ends otherwise.
    """

    def __init__(self, path: Path, columns: int = 4):
        self.path, self.columns = Path(path), columns
        if self.path.suffix.lower() not in (".png", ".html"):
            raise ValueError(f"A contact sheet is a .png or .html file, not '{path}'.")
        self._thumbnails: dict = {}

    def add(self, job: Job, pixels: np.ndarray) -> None:
        """Keep a small copy of a side-by-side picture, H×W×3; may be called from any thread."""
        if pixels.dtype == np.uint16:
            pixels = (pixels >> 8).astype(np.uint8)
        image = Image.fromarray(pixels)
        image.thumbnail((8 * THUMBNAIL, THUMBNAIL))
        self._thumbnails[job] = image

    def save(self, jobs: Sequence[Job], report: Report) -> None:
        """Write the sheet, in the order of the jobs; failed ones appear with their reason.

        Raises:
            ValueError: There are more pictures than a PNG should have.
        """
        if self.path.suffix.lower() == ".html":
            self._save_html(jobs, report)
        else:
            self._save_png(jobs, report)

    def _save_html(self, jobs: Sequence[Job], report: Report) -> None:
        figures = []
        for job in jobs:
            name = html.escape(str(job.source))
            if job in report.failed:
                reason = html.escape(report.failed[job])
                figures.append(f'<figure class="failed">{name}<br>{reason}</figure>')
                continue
            buffer = io.BytesIO()
            self._thumbnails[job].save(buffer, "JPEG", quality=90)
            data = base64.b64encode(buffer.getvalue()).decode()
            link = quote(Path(os.path.relpath(job.targets[0], self.path.parent)).as_posix())
            figures.append(
                f'<figure><a href="{link}"><img src="data:image/jpeg;base64,{data}" alt="{name}">'
                f"</a><figcaption>{name}</figcaption></figure>"
            )
        summary = f"{len(jobs) - len(report.failed)} pictures, {len(report.failed)} failed."
        page = PAGE.format(title="Colorized pictures", summary=summary, figures="\n".join(figures))
        write_atomically(self.path, page.encode())

    def _save_png(self, jobs: Sequence[Job], report: Report) -> None:
        if len(jobs) > MAX_PNG_PICTURES:
            raise ValueError(
                f"A contact sheet of {len(jobs)} pictures is too large for a PNG; name an .html "
                "file instead."
            )
        gap, caption = 12, 20
        font = ImageFont.truetype(font_manager.findfont("DejaVu Sans"), 12)
        shown = list(jobs)
        width = max([2 * THUMBNAIL, *(image.width for image in self._thumbnails.values())])
        rows = -(-len(shown) // self.columns)
        cell = (width + gap, THUMBNAIL + caption + gap)
        columns = min(self.columns, len(shown))
        canvas = Image.new("RGB", (gap + columns * cell[0], gap + rows * cell[1]), "white")
        draw = ImageDraw.Draw(canvas)
        for number, job in enumerate(shown):
            left, top = gap + number % columns * cell[0], gap + number // columns * cell[1]
            text = job.source.name
            if job in report.failed:
                text += ": " + report.failed[job]
                draw.rectangle(
                    [left, top, left + width - 1, top + THUMBNAIL - 1], outline="#a40000"
                )
            else:
                canvas.paste(self._thumbnails[job], (left, top))
            while draw.textlength(text, font) > width:
                text = text[:-2].rstrip("…") + "…"
            draw.text((left, top + THUMBNAIL + 3), text, fill=(38, 38, 38), font=font)
        save_png(np.asarray(canvas), self.path)
