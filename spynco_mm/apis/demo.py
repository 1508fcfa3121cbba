"""A page in the browser: drop a picture, see what every output makes of it.

Needs gradio. Nothing is fetched from elsewhere, neither by the server nor by the page.
"""

import base64
import html
import io
import os
import re
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from spynco_mm.datasets.decoding import picture_size
from spynco_mm.datasets.images import DataError
from spynco_mm.visualization.pyramid_grid import SUBSCRIPTS

from .colorizer import Colorizer
from .hints import Hints
from .jobs import side_by_side
from .pictures import (
    OUTPUT_SUFFIXES,
    encode_picture,
    fit_to_format,
    output_suffix,
    read_picture,
)
from .projection import grey_error, to_gray

# Before the import: gradio reports starts and looks for newer versions otherwise.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import gradio as gr
from fastapi import FastAPI
from starlette.middleware import Middleware

#: Pictures on the page are reduced to this many pixels a side; the downloads are not.
PREVIEW = 800
#: gradio's page names a script and fonts elsewhere; a browser that gets this loads none of them.
POLICY = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'"
)

STYLE = """
.spynco .slider { position: relative; max-width: 800px; margin: 0 auto 16px; --x: 50%; }
.spynco .slider img { display: block; width: 100%; margin: 0; }
.spynco .slider .after { position: absolute; inset: 0; clip-path: inset(0 0 0 var(--x)); }
.spynco .slider .line { position: absolute; top: 0; bottom: 0; left: var(--x); width: 2px;
    margin-left: -1px; background: white; box-shadow: 0 0 3px black; }
.spynco .slider input { position: absolute; inset: 0; width: 100%; height: 100%; margin: 0;
    opacity: 0; cursor: ew-resize; }
.spynco .row { display: flex; flex-wrap: wrap; gap: 12px; justify-content: center; }
.spynco figure { margin: 0; flex: 1 1 120px; max-width: 220px; text-align: center; }
.spynco figure img { width: 100%; cursor: pointer; }
/* The whole name of a result, which gradio would cut to its beginning. */
#download .file { flex-wrap: wrap; }
#download .filename { flex-basis: 100%; }
#download .stem { white-space: normal; overflow-wrap: anywhere; }
footer { display: none !important; }
"""

#: What dragging does, and a click on one of the pictures below.
DRAG = "this.parentNode.style.setProperty('--x', this.value + '%')"
CHOOSE = "this.closest('.spynco').querySelector('.after').src = this.src"


class PolicyMiddleware:
    """Sends :data:`POLICY` with every answer."""

    def __init__(self, app: FastAPI):
        self.app = app

    async def __call__(self, scope: dict, receive, send) -> None:
        async def send_with_policy(message: dict) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message["headers"],
                    (b"content-security-policy", POLICY.encode()),
                ]
            await send(message)

        await self.app(scope, receive, send_with_policy)


def _title(output: int) -> str:
    """G₁ and so on."""
    return f"G{output}".translate(SUBSCRIPTS)


def _preview(pixels: np.ndarray) -> str:
    """Pixels of any kind as the address of a small picture."""
    image = Image.fromarray(side_by_side([pixels]))
    image.thumbnail((PREVIEW, PREVIEW))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=92, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def comparison_html(pictures: "dict[str, np.ndarray]", chosen: str, notes: "dict[str, str]") -> str:
    """The first picture under a slider with the chosen one, and all of them below.

    Args:
        pictures: H×W or H×W×3 pixels by title.
        chosen: Title of the one to compare with first.
        notes: What stands behind some of the titles.
    """
    previews = {title: _preview(pixels) for title, pixels in pictures.items()}
    first = next(iter(previews))
    figures = "".join(
        f'<figure><img src="{source}" alt="{html.escape(title)}" onclick="{CHOOSE}">'
        f"<figcaption>{html.escape(title + notes.get(title, ''))}</figcaption></figure>"
        for title, source in previews.items()
    )
    return (
        f'<div class="spynco"><div class="slider"><img src="{previews[first]}" alt="{first}">'
        f'<img class="after" src="{previews[chosen]}" alt="compared with"><div class="line"></div>'
        f'<input type="range" min="0" max="100" value="50" aria-label="slider" oninput="{DRAG}">'
        f'</div><div class="row">{figures}</div></div>'
    )


def picked_color(text: str) -> "tuple[int, ...]":
    """RGB of what gradio's picker gives, ``#rrggbb`` or ``rgba(r, g, b, a)``."""
    if text.startswith("#"):
        return tuple(bytes.fromhex(text[1:7]))
    return tuple(round(float(number)) for number in re.findall(r"[\d.]+", text)[:3])


def hint_picture(gray: np.ndarray, points: "list[tuple]") -> Image.Image:
    """The grey picture, reduced, with a dot for each hint."""
    image = Image.fromarray(gray).convert("RGB")
    scale = max(1, max(image.size) / PREVIEW)
    image = image.resize([max(1, round(side / scale)) for side in image.size])
    draw = ImageDraw.Draw(image)
    radius = max(2, max(image.size) // 100)
    for x, y, color in points:
        at = (x / scale, y / scale)
        draw.ellipse(
            [v - radius for v in at] + [v + radius for v in at], fill=color, outline="white"
        )
    return image


def build_demo(colorizer: Colorizer, folder: Path, max_pixels: int) -> gr.Blocks:
    """The page.

    Args:
        colorizer: With ``output="all"``.
        folder: Where the results for download go, one folder in it for each picture.
        max_pixels: Larger pictures are refused before they are decoded.
    """

    def colorize(path: str, saturation: float, hints: "tuple[str, list]") -> tuple:
        if path is None:
            return "", [], None
        if colorizer.projection is not None:
            colorizer.projection.saturation = saturation  # one at a time
        height, width = picture_size(path) or (0, 0)
        if width * height > max_pixels:
            raise gr.Error(
                f"{width}×{height} pixels are more than the {max_pixels / 1e6:g} million that are "
                "taken here."
            )
        name = Path(path).name
        try:
            return colorize_file(Path(path), hints[1] if hints[0] == path else [])
        except DataError as error:
            raise gr.Error(str(error).replace(path, name)) from error
        except Exception as error:  # or the page would show the word Error, and nothing else
            raise gr.Error(
                f"{name} cannot be colorized here ({type(error).__name__}: {error})."
            ) from error

    def place(
        path: str, hints: "tuple[str, list]", color: str, event: gr.SelectData
    ) -> "tuple[str, list]":
        shown, size = event.index, read_picture(Path(path)).pixels.shape[:2]
        scale = max(1, max(size) / PREVIEW)
        x, y = (min(int(at * scale), side - 1) for at, side in zip(shown, size[::-1]))
        others = [hint for hint in hints[1] if hint[:2] != (x, y)] if hints[0] == path else []
        return path, [*others, (x, y, picked_color(color))]

    def colorize_file(path: Path, points: list) -> tuple:
        picture = read_picture(path)
        outputs = colorizer.colorize_pictures([picture], [Hints.points(points)])[0]
        exact, notes = to_gray(picture.pixels, colorizer.translation), {}
        pictures = {"grey": np.round(exact).astype(np.uint8)}
        # From the coarsest output to the final one.
        for i, output in reversed(list(zip(colorizer.outputs, outputs))):
            pictures[_title(i)] = output.pixels
            error = grey_error(output.pixels, exact, colorizer.translation)
            notes[_title(i)] = f", |H_t(O) − I| ≤ {error:.2f}"
        if picture.is_color:
            pictures["real"] = picture.pixels
        results = []
        place = Path(tempfile.mkdtemp(dir=folder))
        suffix = output_suffix(path)
        if picture.alpha is not None and OUTPUT_SUFFIXES[suffix.lower()] == ".jpg":
            suffix = ".png"
        for i, output in zip(colorizer.outputs, outputs):
            result = place / f"{path.stem}.G{i}{suffix}"
            output = fit_to_format(output, suffix)
            result.write_bytes(encode_picture(output, suffix))
            results.append(str(result))
        view = comparison_html(pictures, _title(colorizer.outputs[0]), notes)
        if output.note:
            view += f"<p>Note: {html.escape(output.note)}.</p>"
        return view, results, hint_picture(pictures["grey"], points)

    fonts = [[gr.themes.Font(name)] for name in ("sans-serif", "monospace")]
    theme = gr.themes.Default(font=fonts[0], font_mono=fonts[1])
    with gr.Blocks(
        title="SpyncoGan", theme=theme, css=STYLE, analytics_enabled=False, delete_cache=(600, 3600)
    ) as page:
        gr.Markdown(
            "# SpyncoGan\nDrop a picture. A coloured one is turned grey first, and shown as "
            "*real*. Drag over the large picture to compare; click a small one to compare it. "
            "Where a colour is known, choose it and click there."
        )
        with gr.Row():
            with gr.Column(scale=1):
                upload = gr.File(label="Picture", type="filepath", elem_id="upload")
                saturation = gr.Slider(
                    0,
                    3,
                    value=1,
                    step=0.1,
                    label="Saturation",
                    info="Of the chroma, as far as it is in range; the grey stays.",
                    elem_id="saturation",
                    visible=colorizer.projection is not None,
                )
                with gr.Group(visible=colorizer.projection is not None):
                    color = gr.ColorPicker("#c02020", label="Colour of a hint", elem_id="color")
                    canvas = gr.Image(
                        label="Click where it is known", interactive=False, elem_id="hints"
                    )
                    forget = gr.Button("Forget hints", elem_id="forget")
                hints = gr.State(("", []))
                download = gr.File(label="Results", interactive=False, elem_id="download")
            with gr.Column(scale=3):
                view = gr.HTML(elem_id="view")
        placed = canvas.select(place, [upload, hints, color], hints, api_name=False)
        forgotten = forget.click(lambda: ("", []), None, hints, api_name=False)
        for event in (upload.change, saturation.release, placed.success, forgotten.success):
            event(colorize, [upload, saturation, hints], [view, download, canvas], api_name=False)
    return page.queue(max_size=16, default_concurrency_limit=1)


def launch_demo(
    colorizer: Colorizer,
    host: str = "127.0.0.1",
    port: int = 7860,
    max_megapixels: float = 24,
    max_megabytes: int = 32,
) -> None:
    """Serve the page until interrupted.

    Args:
        colorizer: With ``output="all"``.
        host: Address to listen at. Anything but the default lets other computers in.
        port: Port to listen at.
        max_megapixels: Larger pictures are refused before they are decoded.
        max_megabytes: Larger files are refused while they are uploaded.

    Raises:
        OSError: The port is taken.
    """
    with tempfile.TemporaryDirectory(prefix="spynco_demo_") as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder
        page = build_demo(colorizer, Path(folder), int(max_megapixels * 1e6))
        try:
            page.launch(
                server_name=host,
                server_port=port,
                max_file_size=max_megabytes * 2**20,
                allowed_paths=[folder],
                share=False,
                show_api=False,
                quiet=True,
                app_kwargs=dict(middleware=[Middleware(PolicyMiddleware)]),
                prevent_thread_lock=True,
            )
        except OSError as error:
            raise OSError(
                f"The page cannot listen at {host}, port {port}: it is taken, or not allowed; name "
                "another with --port."
            ) from error
        print(f"The page is at {page.local_url} (end with Ctrl-C).", flush=True)
        page.block_thread()
