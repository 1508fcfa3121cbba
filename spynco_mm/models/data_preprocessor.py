"""mmagic's data preprocessor, at a cost that does not grow with the number of pictures."""

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property, partial
from typing import Any

from mmagic.models import DataPreprocessor
from mmagic.registry import MODELS
from mmagic.structures import DataSample
from mmengine.utils import is_list_of


class BatchSamples(Sequence):
    """The data samples of a batch that was made as a whole; they are made when they are looked at.

    To everybody a sequence of ``DataSample``; to :class:`BatchDataPreprocessor` one that is
    stacked, as mmagic's ``DataSample.stack`` makes it. Between processes it is sent as that one.

    Args:
        stack: Makes the stacked one. From an iterable of samples a list is made instead: so
            mmengine's ``cast_data`` builds a sequence anew.
        length: Number of samples.
        kind: What they have in common of ``{key}_channel_order`` and ``{key}_color_type``.
    """

    def __new__(cls, stack: Callable[[], DataSample] | Iterable[DataSample], *args):
        return super().__new__(cls) if callable(stack) else list(stack)

    def __init__(self, stack: Callable[[], DataSample], length: int, kind: dict[str, str]):
        self._stack = stack
        self._length = length
        self.kind = kind

    @classmethod
    def of(cls, samples: list[DataSample], kind: dict[str, str]) -> "BatchSamples":
        """From samples that can be stacked."""
        batch = cls(partial(DataSample.stack, samples), len(samples), kind)
        batch._samples = samples
        return batch

    @cached_property
    def stacked(self) -> DataSample:
        """All of them in one."""
        return self._stack()

    @cached_property
    def _samples(self) -> list[DataSample]:
        return self.stacked.split()

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int | slice) -> DataSample | list[DataSample]:
        return self._samples[index]

    def __reduce__(self) -> tuple:
        return _received, (self.stacked, self._length, self.kind)


def _received(stacked: DataSample, length: int, kind: dict[str, str]) -> BatchSamples:
    return BatchSamples(lambda: stacked, length, kind)


def _require_same_fields(samples: list[DataSample]) -> None:
    fields = [{*sample.all_keys()} for sample in samples]
    if odd := set.union(*fields) - set.intersection(*fields):
        raise ValueError(
            f"Only some samples of a batch have {', '.join(sorted(odd))}; let all data sets have "
            "the same, or set stack_data_sample=False in the data_preprocessor."
        )


class _LateSample(DataSample):
    """A ``DataSample`` that is made when something of it is looked at."""

    def __init__(self, make: Callable[[], DataSample] | None = None, **kwargs):
        if make is None:
            super().__init__(**kwargs)
        else:
            self.__dict__["_make"] = make

    def __getattr__(self, name: str) -> Any:  # Only called for what is not there.
        make = self.__dict__.pop("_make", None)
        if make is None:
            raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")
        self.__dict__.update(make().__dict__)
        return getattr(self, name)


@MODELS.register_module()
class BatchDataPreprocessor(DataPreprocessor):
    """mmagic's ``DataPreprocessor``, which does a batch of :class:`BatchSamples` in one go.

    The results are mmagic's, but that the stacked data sample, which no translation model looks at
    in training, is made when it is looked at. Any other batch is left to mmagic, unless it has
    pictures of several sizes: their padding would be trained on, and cannot be stacked.

    Args:
        **kwargs: Those of mmagic's ``DataPreprocessor``. With ``stack_data_sample=False`` pictures
            of several sizes can be evaluated.
    """

    def forward(self, data: dict, training: bool = False) -> dict:
        """Cast, convert, normalise and pad, as mmagic does.

        Raises:
            ValueError: The pictures of a batch are of several sizes, or its samples do not all have
                the same fields.
        """
        if training or self.stack_data_sample:
            self._require_one_size(data["inputs"])
        samples = data.get("data_samples")
        if self.stack_data_sample and is_list_of(samples, DataSample):
            _require_same_fields(samples)
        if not isinstance(samples, BatchSamples) or not self.stack_data_sample:
            return super().forward(data, training)
        # mmagic knows sequences of pictures as well, and to it the batch is a single one.
        sample, inputs = DataSample(metainfo=samples.kind), {}
        for key, images in data["inputs"].items():
            inputs[key] = self.cast_data(images)
            if key not in self._NON_IMAGE_KEYS:
                (inputs[key],), _ = self._preprocess_image_tensor(inputs[key][None], [sample], key)
        late = _LateSample(partial(self._stacked, samples, sample, training))
        return dict(inputs=inputs, data_samples=late)

    def _require_one_size(self, inputs: Any) -> None:
        for key, images in inputs.items() if isinstance(inputs, dict) else ():
            if key in self._NON_IMAGE_KEYS or not isinstance(images, (list, tuple)):
                continue
            sizes = {tuple(image.shape[-2:]) for image in images}
            if len(sizes) > 1:
                sizes = " and ".join(f"{height}×{width}" for height, width in sorted(sizes)[:2])
                raise ValueError(
                    f"The pictures '{key}' of a batch are of several sizes, such as {sizes}; give "
                    "the data set a size, crop them alike, or load them with batch_size=1."
                )

    def _stacked(self, samples: BatchSamples, sample: DataSample, training: bool) -> DataSample:
        """What mmagic makes of the samples, from what it has made of the inputs' metainfo."""
        stacked = self.cast_data(samples.stacked)
        sample.set_data({k: stacked.get(k) for k in self.data_keys or () if k in stacked})
        sequence = self._preprocess_data_sample([sample], training)
        for key, (images,) in sequence.items():
            stacked.set_field(images, key)
        for key, values in sequence.metainfo_items():
            stacked.set_field(values * len(samples), key, field_type="metainfo")
        return stacked
