"""The pool of earlier images that a discriminator learns from, as one tensor."""

import numpy as np
import torch
from torch import Tensor


class ImagePool:
    """mmagic's ``GANImageBuffer`` for whole batches.

    The same images come out for the same state of NumPy's random generator, and the same ones
    stay. But mmagic asks image by image, with several copies each; here the draws come first, on
    the host, and then all images move at once. As the draws need no image, they can be made before
    there is one, outside of what is captured or compiled.

    It is no module and its tensor no buffer of one, so that weights, their averages and a strict
    loading of them do not know of it; :class:`~spynco_mm.engine.ExactResumeHook` saves it.

    Args:
        buffer_size: Images in the pool; 0 for none, which returns every batch as it is.
        buffer_ratio: Probability, once the pool is full, that an image is exchanged for one of it.

    Attributes:
        img_num: How many images it holds.
        rows: Its places, and behind them as many for a batch as were needed yet, so R×C×H×W, of
            float32 or float64, on the device of the images; None before the first ones.
    """

    def __init__(self, buffer_size: int, buffer_ratio: float = 0.5):
        self.buffer_size = buffer_size
        self.buffer_ratio = buffer_ratio
        self.img_num = 0
        self.rows: Tensor | None = None

    def plan(self, n: int) -> list[int]:
        """Draw for a batch of n images, in the order in which ``GANImageBuffer`` draws.

        Returns:
            The rows of the n images to return, where those of the batch lie behind the pool; then
            the rows to put the n images of the batch to, which are those that they have there for
            all that do not stay. Nothing if there is no pool.
        """
        if not self.buffer_size:
            return []
        newest, returned = {}, []  # The row that an image of the batch replaces, with its own.
        for row in range(self.buffer_size, self.buffer_size + n):
            if self.img_num < self.buffer_size:
                newest[self.img_num] = row
                self.img_num += 1
            elif np.random.random() < self.buffer_ratio:
                place = np.random.randint(0, self.buffer_size)
                returned.append(newest.get(place, place))
                newest[place] = row
                continue
            returned.append(row)
        places = {row: place for place, row in newest.items()}
        rows = range(self.buffer_size, self.buffer_size + n)
        return returned + [places.get(row, row) for row in rows]

    def exchange(self, images: Tensor, plan: Tensor) -> Tensor:
        """Carry a plan out: two gathers and a copy, whatever n.

        Args:
            images: n×C×H×W.
            plan: What :meth:`plan` gave for n, on the device of the images.

        Returns:
            n×C×H×W, of the pool's type.

        Raises:
            ValueError: The pool holds images of another size.
        """
        images = images.detach()
        if not self.buffer_size:
            return images
        self._make_room(images)
        images = images.to(self.rows.dtype)
        self.rows[self.buffer_size : self.buffer_size + len(images)] = images
        returned, places = plan.chunk(2)
        found = self.rows.index_select(0, returned)
        self.rows.index_copy_(0, places, images)
        return found

    def _make_room(self, images: Tensor) -> None:
        """Have the pool where the images are, with room for all of them.

        A pool that has room stays where it is in memory, as a captured step needs it to.
        """
        old, needed = self.rows, self.buffer_size + len(images)
        if old is not None and old.shape[1:] != images.shape[1:]:
            theirs, ours = ("×".join(map(str, x.shape[1:])) for x in (images, old))
            raise ValueError(
                f"ImagePool: it holds images of {ours}, got {theirs}; train on images of one size, "
                "or without a pool, with buffer_size=0."
            )
        if old is None or len(old) < needed or old.device != images.device:
            dtype = torch.promote_types(images.dtype, torch.float32)
            self.rows = images.new_zeros(needed, *images.shape[1:], dtype=dtype)
            if old is not None:
                self.rows[: self.buffer_size] = old[: self.buffer_size]

    def query(self, images: Tensor) -> Tensor:
        """Both at once, as ``GANImageBuffer`` is called."""
        plan = torch.tensor(self.plan(len(images)), dtype=torch.int64)
        return self.exchange(images, plan.to(images.device, non_blocking=True))

    def held(self) -> "Tensor | list":
        """A copy of the images it holds, img_num×C×H×W; an empty list if there are none."""
        return self.rows[: self.img_num].clone() if self.img_num else []

    def refill(self, images: "Tensor | list") -> None:
        """Hold other images, as many of them as there is room for; also those of another pool."""
        self.img_num, self.rows = min(len(images), self.buffer_size), None
        if self.img_num:
            self._make_room(images[:0])
            self.rows[: self.img_num] = images[: self.img_num]
