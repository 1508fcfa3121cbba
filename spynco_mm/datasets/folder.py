"""Data sets of picture files: any folder, CycleGAN's layout, and UC Merced Land Use."""

import json
import logging
import os
import random
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmagic.registry import DATASETS
from mmengine.dist import get_rank
from mmengine.logging import print_log
from tqdm import tqdm

from .base import ColorizationDataset
from .images import fit_image, list_files, list_images, read_image, unread
from .picture import DataError, grey_if_grey


def _some(names: Sequence[str], limit: int = 10) -> str:
    """The first names of a list, and how many more there are."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def seeded_split(
    names: Sequence[str], train_fraction: float, seed: int, file: Path
) -> dict[str, list[str]]:
    """Split names at random into ``train`` and ``test``, and keep the split in a JSON file.

    An existing file is used as it is. All processes of a distributed run compute the same split and
    put it in place in one step, so they need not wait for each other.

    Raises:
        DataError: The file was made for other names, another seed or another fraction, it cannot be
            read or written, or one side of the split is empty.
    """
    if not 0 < train_fraction < 1:
        raise DataError(f"train_fraction lies between 0 and 1, not at {train_fraction}.")
    remedy = "remove it to draw a new split, or name another split_file."
    if file.exists():
        try:
            saved = json.loads(file.read_text())
            split = {part: list(saved[part]) for part in ("train", "test")}
            made_with = saved["seed"], saved["train_fraction"]
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise DataError(f"{file}: this is not a split file ({error!r}); {remedy}") from error
        if made_with != (seed, train_fraction):
            raise DataError(
                f"{file}: this split was made with seed {made_with[0]} and train_fraction "
                f"{made_with[1]}, not {seed} and {train_fraction}; {remedy}"
            )
        saved_names = split["train"] + split["test"]
        if sorted(saved_names) != sorted(names):
            missing = sorted(set(saved_names) - set(names))
            new = sorted(set(names) - set(saved_names))
            raise DataError(
                f"{file}: the saved split no longer matches the pictures, {len(missing)} of it are "
                f"missing ({_some(missing, 3) or 'none'}) and {len(new)} are not in it "
                f"({_some(new, 3) or 'none'}); bring the pictures back, or {remedy}"
            )
        return split

    shuffled = sorted(names)
    random.Random(seed).shuffle(shuffled)
    count = round(len(shuffled) * train_fraction)
    split = {"train": sorted(shuffled[:count]), "test": sorted(shuffled[count:])}
    if not split["train"] or not split["test"]:
        raise DataError(
            f"{file.parent}: {len(names)} picture(s) cannot be split with train_fraction "
            f"{train_fraction} so that both sides get some; add pictures or change it."
        )
    temporary = file.with_name(f".{file.name}.{uuid.uuid4().hex}")
    try:
        saved = dict(seed=seed, train_fraction=train_fraction, **split)
        temporary.write_text(json.dumps(saved, indent=1))
        os.replace(temporary, file)
    except OSError as error:
        raise DataError(
            f"{file}: the split cannot be saved ({error.strerror}); name a split_file in a folder "
            "that can be written."
        ) from error
    return split


@DATASETS.register_module()
class FolderColorization(ColorizationDataset):
    """Pictures in folders.

    A folder per split, as in CycleGAN's layout, is
    ``dict(data_root='data/cezanne2photo', color_dir=dict(train='trainA', test='testA'))``. One
    folder for both splits needs ``train_fraction``. One folder without it is used whole.

    All pictures are decoded once when the data set is built, with a progress bar, so that a broken
    file shows then, and so does a set to learn colours from that has none. They stay in memory, as
    8-bit RGB, if they fit; each process of a distributed run has its own copy, which its workers
    share.

    Args:
        data_root: Folder that the others are relative to.
        color_dir: Folder of the colour pictures, or one for ``train`` and one for ``test``. They
            are also the ones turned grey, unless ``gray_dir`` is given.
        gray_dir: Other folder, or folders, for domain A. Its pictures are turned grey (grey ones
            stay as they are).
        reference_dir: Folder, or folders, of the real colours of ``gray_dir``, under the same
            names, to compare with in test mode. Without it the pictures of ``gray_dir`` are their
            own reference, and so must be in colour there: a grey one would be best left grey.
        class_folders: The first folder level below ``color_dir`` (or ``gray_dir``) names the class.
        train_fraction: Split the pictures of ``color_dir`` at random, with this part for training.
        split_seed: Seed of that split.
        split_file: JSON file that keeps the split. None means
            ``<data_root>/split_<color_dir>_seed<split_seed>_<train_fraction>.json``.
        size: Resize the shorter side to this (antialiased) and crop the central square.
        min_size: Pictures with a shorter side below this are refused.
        cache_mb: Memory for decoded pictures, in MiB per process. A larger set is read from disk
            for each item; 0 always does that.
        **kwargs: As for :class:`ColorizationDataset`.
    """

    def __init__(
        self,
        data_root: str = "",
        color_dir: str | dict[str, str] = "",
        gray_dir: str | dict[str, str] | None = None,
        reference_dir: str | dict[str, str] | None = None,
        class_folders: bool = False,
        train_fraction: float | None = None,
        split_seed: int = 0,
        split_file: str | None = None,
        size: int | None = None,
        min_size: int = 16,
        cache_mb: float = 2048,
        pipeline: Sequence[dict | Callable] = (),
        test_mode: bool = False,
        **kwargs,
    ):
        name = type(self).__name__
        per_split = isinstance(color_dir, dict) or isinstance(gray_dir, dict)
        if train_fraction is not None and (per_split or gray_dir is not None):
            raise DataError(
                f"{name}: train_fraction splits the one folder color_dir, so it goes with neither "
                "a gray_dir nor a folder per split; leave out one or the other."
            )
        if train_fraction is None and (split_file or (kwargs.get("split") and not per_split)):
            raise DataError(
                f"{name}: split and split_file want a random split or a folder per split, but "
                "there is neither; give train_fraction, or color_dir=dict(train=..., test=...)."
            )
        if reference_dir is not None and gray_dir is None:
            raise DataError(
                f"{name}: reference_dir has the real colours of gray_dir's pictures, but there "
                "is no gray_dir; the pictures of color_dir are their own reference."
            )
        self.color_dir = color_dir
        self.gray_dir = gray_dir
        self.reference_dir = reference_dir
        self.class_folders = class_folders
        self.train_fraction = train_fraction
        self.split_seed = split_seed
        self.split_file = split_file
        self.size = size
        self.min_size = min_size
        self.cache_mb = cache_mb
        self.color_paths: list[str] = []
        self.cache: dict[str, np.ndarray] | None = None
        self.rows: dict[str, int] = {}  # of the pictures in the table, if they have one size
        self.pictures: torch.Tensor | None = None
        super().__init__(data_root=data_root, pipeline=pipeline, test_mode=test_mode, **kwargs)

    def load_data_list(self) -> list[dict]:
        """One entry per picture of domain A."""
        folder = self._folder(self.color_dir if self.gray_dir is None else self.gray_dir)
        paths = list_images(folder)
        # Not our own splits, and once for all the splits.
        others = [path for path in list_files(folder)[1] if not path.match("split_*.json")]
        if others and not self.test_mode:
            print_log(f"{unread(others)}.", "current", logging.WARNING)
        # Before the split, so that both sides number the classes alike.
        labels = self._number_classes(folder, paths) if self.class_folders else {}
        if self.train_fraction is not None:
            paths = self._select_split(folder, paths)
        if self.gray_dir is not None and not self.test_mode:
            self.color_paths = [str(path) for path in list_images(self._folder(self.color_dir))]
        entries = [dict(img_path=str(path)) for path in paths]
        for entry, path in zip(entries, paths):
            if self.class_folders:
                entry["gt_label"] = labels[path.relative_to(folder).parts[0]]
            if self.reference_dir is not None and self.test_mode:
                reference = self._folder(self.reference_dir) / path.relative_to(folder)
                entry["reference_path"] = str(reference)
        return entries

    def _folder(self, choice: str | dict[str, str]) -> Path:
        """A folder, of this split if there is one per split."""
        if isinstance(choice, dict):
            if self.split not in choice:
                raise DataError(
                    f"{type(self).__name__}: there is no folder for '{self.split}' in {choice}; "
                    "give one for 'train' and one for 'test'."
                )
            choice = choice[self.split]
        return Path(self.data_root, choice)

    def _number_classes(self, folder: Path, paths: list[Path]) -> dict[str, int]:
        stray = [str(path) for path in paths if path.parent == folder]
        if stray:
            raise DataError(
                f"{folder}: class_folders=True wants every picture in the folder of its class, but "
                f"{_some(stray, 3)} lie beside them; move them, or set class_folders=False."
            )
        classes = sorted({path.relative_to(folder).parts[0] for path in paths})
        self.set_classes(classes)
        return {name: label for label, name in enumerate(classes)}

    def _select_split(self, folder: Path, paths: list[Path]) -> list[Path]:
        names = [path.relative_to(folder).as_posix() for path in paths]
        if self.split_file is None:
            path = Path(self.color_dir)
            parts = ("split", *path.relative_to(path.anchor).parts, f"seed{self.split_seed}")
            file = Path(self.data_root, f"{'_'.join(parts)}_{self.train_fraction}.json")
        else:
            file = Path(self.split_file)
        split = seeded_split(names, self.train_fraction, self.split_seed, file)
        return [folder / name for name in split[self.split]]

    def full_init(self) -> None:
        """List the pictures, then decode each of them once."""
        if self._fully_initialized:
            return
        super().full_init()
        entries = [self.get_data_info(index) for index in range(len(self))]
        paths = [entry["img_path"] for entry in entries]
        references = [e["reference_path"] for e in entries if "reference_path" in e]
        self._decode_all(paths + self.color_paths + references)
        if self.gray_dir is not None and self.test_mode:
            self._check_references(references or paths)

    def _check_references(self, paths: list[str]) -> None:
        """Refuse to compare with pictures that have no colours: doing nothing would win."""
        grey = [path for path in paths if not np.ptp(self._read(path), axis=2).any()]
        if grey:
            raise DataError(
                f"{len(grey)} of {len(paths)} pictures to compare colours with are grey themselves "
                f"({_some(grey, 3)}); name the folder of the real colours as reference_dir, or "
                "leave out the evaluation and look at the results of tools/colorize.py."
            )

    def _decode(self, path: str) -> np.ndarray:
        """A picture as H×W×3 uint8, at the size that was asked for."""
        image = read_image(path)
        if min(image.shape[:2]) < self.min_size:
            raise DataError(
                f"{path}: its {image.shape[1]}×{image.shape[0]} pixels are below min_size="
                f"{self.min_size}; remove it or use larger pictures."
            )
        return image if self.size is None else fit_image(image, self.size)

    def _decode_all(self, paths: list[str]) -> None:
        """Look at every picture, and keep them all if they fit into ``cache_mb``."""

        def attempt(path: str) -> "tuple[np.ndarray | DataError, bool]":
            try:
                image = self._decode(path)
            except DataError as error:
                return error, False
            return image, grey_if_grey(image).ndim == 2

        cache: dict[str, np.ndarray] = {}
        room = self.cache_mb * 2**20
        problems, grey = [], set()
        threads = min(8, os.cpu_count() or 1)
        step = 4 * threads  # Decoded pictures wait to be looked at, so only so many at a time.
        title = f"Reading {self.data_root}"
        bar = tqdm(total=len(paths), desc=title, delay=1, disable=get_rank() != 0)
        with ThreadPoolExecutor(threads) as pool, bar:
            for start in range(0, len(paths), step):
                batch = paths[start : start + step]
                for path, (image, is_grey) in zip(batch, pool.map(attempt, batch)):
                    if isinstance(image, DataError):
                        problems.append(str(image))
                    elif room >= 0:
                        room -= image.nbytes
                        cache[path] = image
                    if is_grey:
                        grey.add(path)
                if room < 0:
                    cache.clear()
                bar.update(len(batch))
        if problems:
            raise DataError(
                f"{len(problems)} of {len(paths)} pictures cannot be used: "
                + " ".join(problems[:10])
                + (f" And {len(problems) - 10} more." if len(problems) > 10 else "")
            )
        self.cache = cache if room >= 0 else None
        if self.cache and self.size is not None:
            self._tabulate(self.cache)
        if not self.test_mode:
            self._check_colors(self.color_paths or paths, grey)

    def _tabulate(self, cache: dict[str, np.ndarray]) -> None:
        """Move pictures of one size into a table, of which the cache has views then."""
        self.rows = {path: row for row, path in enumerate(cache)}
        self.pictures = torch.empty(len(cache), 3, self.size, self.size, dtype=torch.uint8)
        for (path, image), row in zip(cache.items(), self.pictures.numpy()):
            row[:] = image.transpose(2, 0, 1)
            cache[path] = row.transpose(1, 2, 0)

    def _check_colors(self, paths: list[str], grey: "set[str]") -> None:
        """Refuse to learn colours from pictures without any."""
        without = [path for path in paths if path in grey]
        if len(without) == len(paths):
            raise DataError(
                f"{Path(paths[0]).parent}: all {len(paths)} pictures to learn colours from are "
                "grey; put colour pictures there, or name their folder as color_dir and this one "
                "as gray_dir."
            )
        if without:
            some = f"{len(without)} of {len(paths)} pictures to learn colours from are grey"
            print_log(f"{some}: {_some(without, 3)}.", "current", logging.WARNING)

    def _read(self, path: str) -> np.ndarray:
        return self._decode(path) if self.cache is None else self.cache[path].copy()

    def place(self, info: dict, random: Any = np.random) -> str:
        """The path of a picture."""
        return info["img_path"]

    def read_picture(self, place: str) -> np.ndarray:
        """The picture of a path, from memory or from its file."""
        return self._read(place)

    def table(self) -> torch.Tensor | None:
        """All pictures, if they are in memory and were brought to one size."""
        return self.pictures

    def gather(self, table: torch.Tensor, places: Sequence[str]) -> torch.Tensor:
        """The pictures of some paths."""
        rows = torch.tensor([self.rows[path] for path in places])
        return table.index_select(0, rows.to(table.device, non_blocking=True))

    def reference_place(self, info: dict, place: str) -> str:
        """The real colours: the picture itself, or that of ``reference_dir``."""
        return info.get("reference_path", place)

    def color_place(self, info: dict, random: Any = np.random) -> str:
        """Another picture; with a ``gray_dir`` any one of ``color_dir``."""
        if self.gray_dir is None:
            return super().color_place(info, random)
        return self.color_paths[random.randint(len(self.color_paths))]


@DATASETS.register_module()
class UCMercedColorization(FolderColorization):
    """UC Merced Land Use (Yang and Newsam 2010): 2100 aerial pictures of 21 classes, 256×256.

    It has no split of its own; as in section 5.1 of the paper, 80 % of the pictures drawn at random
    are for training. ``tools/prepare_data.py ucmerced`` fetches it.

    Args:
        data_root: Folder that holds ``Images/<class>/*.tif``.
        train_fraction: Part of the pictures for training.
        size: A few pictures are some pixels short of 256×256, so all are brought to this size.
        **kwargs: As for :class:`FolderColorization`.
    """

    def __init__(
        self,
        data_root: str = "data/UCMerced_LandUse",
        train_fraction: float = 0.8,
        size: int | None = 256,
        pipeline: Sequence[dict | Callable] = (),
        test_mode: bool = False,
        **kwargs,
    ):
        super().__init__(
            data_root=data_root,
            color_dir="Images",
            class_folders=True,
            train_fraction=train_fraction,
            size=size,
            pipeline=pipeline,
            test_mode=test_mode,
            **kwargs,
        )

    def load_data_list(self) -> list[dict]:
        """One entry per picture of the split."""
        if not Path(self.data_root, "Images").is_dir():
            raise DataError(
                f"{self.data_root}: there is no folder 'Images' in it; fetch UC Merced Land Use "
                "with 'spynco-prepare-data ucmerced' (in a clone 'python tools/prepare_data.py "
                "ucmerced'), or set data_root to the folder that holds 'Images'."
            )
        return super().load_data_list()
