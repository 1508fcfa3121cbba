"""The colorizer as one file for other programs, ONNX or TorchScript, compared with PyTorch."""

import copy
import importlib.util
import io
import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spynco_mm.datasets.images import read_image
from spynco_mm.datasets.photographs import photograph_path
from spynco_mm.evaluation.tables import markdown_table
from spynco_mm.models.adapter import AnyGenerator
from spynco_mm.models.ops.padding import pad_to_fit
from spynco_mm.utils.files import write_atomically

from .colorizer import Colorizer

#: Height and width of the real pictures that an exported file is tried on: multiples of the stride,
#: odd, below the network's minimum, long, one pixel.
TRIAL_SIZES = ((64, 64), (96, 160), (101, 67), (15, 15), (17, 320), (1, 1))
#: Images in a batch of each size.
TRIAL_BATCH = 2
#: Largest difference from PyTorch, in grey levels of 255, that passes for rounding.
TOLERANCE = 0.1
OPSET = 17


class ExportError(ValueError):
    """An exported file that cannot be made, or does not do what PyTorch does."""


class GrayToColor(nn.Module):
    """What is exported: N×1×H×W grey in [0, 1] to N×3×H×W RGB in [0, 1], of any N, H and W.

    Pictures are extended by reflection and the results cropped and projected, as a
    :class:`Colorizer` does.
    """

    def __init__(self, colorizer: Colorizer):
        super().__init__()
        if tuple(colorizer.translation.weight.shape) != (1, 3):
            raise ExportError("Only networks from grey to RGB are exported; use the Colorizer.")
        self.generator = copy.deepcopy(colorizer.generator).cpu()
        self.run = AnyGenerator(self.generator)
        self.mean, self.std, self.bgr = colorizer.mean / 255, colorizer.std / 255, colorizer.bgr
        self.outputs = colorizer.outputs
        self.projection = copy.deepcopy(colorizer.projection)

    @property
    def example(self) -> Tensor:
        """Images to record the computation with.

        A condition on a size is recorded as what it is for these: they have to be extended in both
        directions, and so every image is.
        """
        side = self.run.min_size
        return torch.rand(2, 1, side - 1, side - 2)

    def forward(self, gray: Tensor) -> "tuple[Tensor, ...]":
        """N×1×H×W in [0, 1] to one N×3×H×W in [0, 1] for each output."""
        height, width = gray.shape[2], gray.shape[3]
        x = pad_to_fit((gray - self.mean) / self.std, self.run.stride, self.run.min_size)
        x = torch.cat([x, x, x], 1)
        pyramid = self.run(x, max(self.outputs))
        colors = []
        for i in self.outputs:
            color = pyramid[i - 1][:, :, :height, :width] * self.std + self.mean
            color = color.flip(1) if self.bgr else color
            if self.projection is not None:
                color = self.projection.values(color * 255, gray * 255) / 255
            colors.append(color.clamp(0, 1))
        return tuple(colors)


def _trace(module: GrayToColor) -> torch.jit.ScriptModule:
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        return torch.jit.trace(module, module.example, check_trace=False)


def _torchscript(module: GrayToColor, path: Path) -> None:
    buffer = io.BytesIO()
    torch.jit.save(_trace(module), buffer)
    write_atomically(path, buffer.getvalue())


def _run_torchscript(path: Path) -> "Callable[[Tensor], Sequence[Tensor]]":
    return torch.jit.load(str(path))


def _onnx(module: GrayToColor, path: Path) -> None:
    missing = [n for n in ("onnx", "onnxruntime") if importlib.util.find_spec(n) is None]
    if missing:
        raise ExportError(
            f"Export to ONNX needs {' and '.join(missing)}; pip install {' '.join(missing)}, or "
            "export to TorchScript."
        )
    outputs = [f"color_G{i}" for i in module.outputs]
    axes = {0: "batch", 2: "height", 3: "width"}
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (module.example,),
            buffer,
            input_names=["gray"],
            output_names=outputs,
            dynamic_axes={name: axes for name in ["gray", *outputs]},
            opset_version=OPSET,
            dynamo=False,
        )
    write_atomically(path, buffer.getvalue())


def _run_onnx(path: Path) -> "Callable[[Tensor], Sequence[Tensor]]":
    import onnx
    import onnxruntime

    onnx.checker.check_model(str(path), full_check=True)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda gray: [torch.from_numpy(o) for o in session.run(None, {"gray": gray.numpy()})]


WRITERS = {".onnx": (_onnx, _run_onnx), ".pt": (_torchscript, _run_torchscript)}


def trial_pictures(height: int, width: int) -> Tensor:
    """Parts of real photographs, grey: N×1×H×W in [0, 1]."""
    pictures = []
    for name in ("china", "flower")[:TRIAL_BATCH]:
        photo = torch.from_numpy(read_image(photograph_path(name))).permute(2, 0, 1)[None].float()
        gray = photo.mean(1, keepdim=True) / 255
        scale = max(height / gray.shape[2], width / gray.shape[3])
        size = [max(round(side * scale), low) for side, low in zip(gray.shape[2:], (height, width))]
        gray = F.interpolate(gray, size, mode="bilinear", antialias=True).clamp(0, 1)
        pictures.append(gray[..., :height, :width])
    return torch.cat(pictures)


def _compare(colorizer: Colorizer, run: Callable) -> "list[dict]":
    """The rows of :func:`export_and_compare`."""
    rows = []
    for height, width in TRIAL_SIZES:
        for batch in (1, TRIAL_BATCH):
            gray = trial_pictures(height, width)[:batch]
            grays = [np.ascontiguousarray(g[0]) for g in (gray * 255).numpy()]
            wanted = colorizer.colorize_gray(grays, [np.dtype(np.float32)] * batch)
            for number, (i, got) in enumerate(zip(colorizer.outputs, run(gray))):
                want = torch.from_numpy(np.stack([outputs[number] for outputs in wanted]))
                want = want.permute(0, 3, 1, 2)
                if got.shape != want.shape:
                    raise ExportError(
                        f"for {batch} picture(s) of {width}×{height} it gives the shape "
                        f"{tuple(got.shape)} instead of {tuple(want.shape)}"
                    )
                difference = (got - want).abs() * 255
                rows.append(
                    dict(
                        batch=batch,
                        height=height,
                        width=width,
                        output=f"G{i}",
                        max_difference=difference.max().item(),
                        mean_difference=difference.mean().item(),
                    )
                )
    return rows


@torch.no_grad()
def export_and_compare(colorizer: Colorizer, path: Path) -> dict:
    """Export, then run the file on real pictures of several sizes and batches.

    Args:
        colorizer: On any device; its ``outputs`` are exported.
        path: ``.onnx`` for ONNX, ``.pt`` for TorchScript.

    Returns:
        ``file``, ``megabytes``, ``max_difference`` and ``rows``, one for each size and output:
        ``batch``, ``height``, ``width``, ``output``, ``max_difference`` and ``mean_difference``
        from the :class:`Colorizer`, in grey levels of 255.

    Raises:
        ExportError: A package is missing, or the file does not run, or its results differ by more
            than rounding. It is removed then, and what was there before is left.
        ValueError: The format is unknown, or cannot do what the colorizer does.
    """
    path = Path(path)
    if path.suffix not in WRITERS:
        raise ValueError(f"The name ends in .onnx or .pt, not as '{path}' does.")
    if colorizer.working_size is not None:
        raise ValueError("A working size cannot be exported; export without it.")
    write, load = WRITERS[path.suffix]
    trial = path.with_name(f".{path.stem}.part{path.suffix}")
    write(GrayToColor(colorizer).eval(), trial)
    try:
        rows = _compare(colorizer, load(trial))
        largest = max(row["max_difference"] for row in rows)
        if not largest <= TOLERANCE:
            raise ExportError(
                f"its results differ from PyTorch's by up to {largest:.3g} grey levels, more than "
                f"{TOLERANCE}"
            )
        os.replace(trial, path)
    except Exception as error:  # of another program
        raise ExportError(f"{path} was made and removed: {error}.") from error
    finally:
        trial.unlink(missing_ok=True)
    return dict(
        file=path.name,
        megabytes=path.stat().st_size / 1e6,
        max_difference=largest,
        torch=str(torch.__version__),
        rows=rows,
    )


def format_comparison(report: dict) -> str:
    """The report of :func:`export_and_compare` as a Markdown table."""
    rows = [["batch", "height", "width", "output", "max. difference", "mean difference"]]
    for row in report["rows"]:
        numbers = (f"{row[f'{which}_difference']:.2e}" for which in ("max", "mean"))
        rows.append([row["batch"], row["height"], row["width"], row["output"], *numbers])
    return f"{markdown_table(rows, left=(3,))}\nDifferences from PyTorch in grey levels, on 0-255."
