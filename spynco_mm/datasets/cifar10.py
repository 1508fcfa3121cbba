"""CIFAR-10, in its own file format."""

import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmagic.registry import DATASETS
from torchvision.datasets import CIFAR10

from .base import ColorizationDataset
from .download import first_on_each_node, prepare_data
from .images import DataError

FETCH = "'spynco-prepare-data cifar10' (in a clone 'python tools/prepare_data.py cifar10')"


class _DataOnly(pickle.Unpickler):
    """Loads arrays, lists and strings, and refuses everything that could run code."""

    allowed = {
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "_reconstruct"),
        ("numpy.core.numeric", "_frombuffer"),
        ("numpy._core.numeric", "_frombuffer"),
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
        ("_codecs", "encode"),
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.allowed:
            raise pickle.UnpicklingError(f"it refers to {module}.{name}")
        return super().find_class(module, name)


def _load(path: Path, parse: Callable[[dict], Any]) -> Any:
    """Read one of CIFAR-10's files and make something of its content."""
    remedy = f"remove its folder and run {FETCH}."
    try:
        with open(path, "rb") as file:
            return parse(_DataOnly(file, encoding="latin1").load())
    except FileNotFoundError as error:
        raise DataError(f"{path}: this file of CIFAR-10 is missing; {remedy}") from error
    except Exception as error:  # A broken pickle raises whatever its bytes happen to say.
        raise DataError(
            f"{path}: this is not a file of CIFAR-10's python version ({error!r}); {remedy}"
        ) from error


def _parse_batch(content: dict) -> tuple[np.ndarray, np.ndarray]:
    """Pictures, N×32×32×3 uint8, and their N labels."""
    data, labels = content["data"], np.asarray(content["labels"], dtype=int)
    if data.dtype != np.uint8 or not len(labels) or data.shape != (len(labels), 3 * 32 * 32):
        raise ValueError(f"{data.dtype} data of shape {data.shape} for {len(labels)} labels")
    return data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), labels


@DATASETS.register_module()
class CIFAR10Colorization(ColorizationDataset):
    """CIFAR-10 (Krizhevsky 2009): 50 000 training and 10 000 test pictures of 32×32, ten classes.

    Files, names and checksums are torchvision's. The archive is fetched when it is absent, by one
    process of each node, and its checksum verified. Files that are already there are read even if
    they are not the published ones, so that a small set in the same format works; they are read as
    data, so that such a file cannot run code.

    Args:
        data_root: Folder that holds, or will hold, ``cifar-10-batches-py``.
        download: Fetch the data if they are absent.
        **kwargs: As for :class:`ColorizationDataset`.
    """

    def __init__(
        self,
        data_root: str = "data",
        download: bool = True,
        pipeline: Sequence[dict | Callable] = (),
        test_mode: bool = False,
        **kwargs,
    ):
        self.download = download
        self.pictures: np.ndarray | None = None  # [N, 32, 32, 3]
        super().__init__(data_root=data_root, pipeline=pipeline, test_mode=test_mode, **kwargs)

    def load_data_list(self) -> list[dict]:
        """One entry per picture; the pictures themselves go to ``self.pictures``."""
        folder = Path(self.data_root, CIFAR10.base_folder)
        if self.download:
            first_on_each_node(lambda: prepare_data("cifar10", self.data_root))
        elif not folder.is_dir():
            raise DataError(
                f"{folder}: there is no such folder; run {FETCH}, or set download=True."
            )
        files = CIFAR10.train_list if self.split == "train" else CIFAR10.test_list
        batches = [_load(folder / name, _parse_batch) for name, _ in files]
        meta = CIFAR10.meta
        classes = _load(folder / meta["filename"], lambda content: list(content[meta["key"]]))
        self.set_classes(classes)
        self.pictures = np.concatenate([pictures for pictures, _ in batches])
        labels = np.concatenate([labels for _, labels in batches]).tolist()
        if not 0 <= min(labels) <= max(labels) < len(classes):
            raise DataError(
                f"{folder}: the {self.split} files have labels from {min(labels)} to {max(labels)} "
                f"for {len(classes)} classes; remove it and run "
                f"{FETCH}."
            )
        # The pictures have no files of their own; the name is one for whoever saves a result.
        return [
            dict(img_path=f"{folder}/{self.split}_{row:05d}.png", gt_label=label, row=row)
            for row, label in enumerate(labels)
        ]

    def place(self, info: dict, random: Any = np.random) -> int:
        """The row of a picture."""
        return info["row"]

    def read_picture(self, place: int) -> np.ndarray:
        """A copy of the picture."""
        return self.pictures[place].copy()

    def table(self) -> torch.Tensor:
        """All pictures, which CIFAR-10's files have channel by channel."""
        return torch.from_numpy(self.pictures).permute(0, 3, 1, 2)

    def gather(self, table: torch.Tensor, places: Sequence[int]) -> torch.Tensor:
        """The pictures of some rows."""
        return table.index_select(0, torch.tensor(places).to(table.device, non_blocking=True))
