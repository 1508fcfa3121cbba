"""Colorize pictures of any kind and size with a trained generator.

Which kinds there are, :mod:`spynco_mm.apis.inputs` says; how grey becomes colour,
:mod:`spynco_mm.apis.network`.
"""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.config import Config

from .hints import Hints, Layer, hint_layer
from .inputs import Input, as_input, as_list, like_batch, picture_input
from .loading import PathLike, load_colorization, split_config_and_checkpoint, with_film
from .network import GrayNetwork, find_device
from .pictures import Picture


class Colorizer(GrayNetwork):
    """Colorizes grey pictures; coloured ones are turned grey first, with the model's H_t.

    ::

        colorize = Colorizer("work_dirs/spynco_demo/epoch_10.pth")
        colorize("old.jpg").save("new.jpg")

    ===============================================  ============================================
    what goes in                                     what comes out
    ===============================================  ============================================
    path of a picture file                           PIL image, 8-bit RGB, or RGBA if it had alpha
    PIL image of any mode but ``F``                  the same
    array H×W, H×W×1 or H×W×3, uint8 or uint16, RGB  H×W×3, the same type
    tensor H×W, 1×H×W or 3×H×W, RGB, uint8, or       3×H×W, the same type, on the same device
    floating point in [0, 1]
    array N×H×W×C, tensor N×C×H×W                    a batch of the same kind
    list or tuple of any of these, of any sizes      list
    ===============================================  ============================================

    With ``output="all"`` each picture gives the list ``[G_1, ..., G_N]`` of what it says above.

    With an H_t of other shapes than 1×3, C_B×C_A in place of 3 and 1 is what goes in and comes out;
    PIL images become arrays where C_B is not 3.

    Any size from 1×1 on is taken: pictures are extended by reflection to what the network needs,
    and the results cropped. Those whose activations would not fit ``memory`` are computed in tiles,
    with the same result (see :mod:`spynco_mm.apis.tiled`).

    Args:
        config_or_checkpoint: A checkpoint, which carries its config; or a config, with the
            checkpoint as the second argument. The config in a checkpoint is read, not executed, and
            the weights are loaded with ``weights_only``, so a stranger's checkpoint can do no harm.
            A config given as a file or ``Config`` is yours and is executed.
        checkpoint: The checkpoint, if a config comes first.
        film: The H_t that the pictures are known to have, as the ``weights`` of a
            :class:`~spynco_mm.models.HandcraftedTranslation`, such as ``"orthochromatic"``: what
            colour pictures are turned grey by, and what the results are projected with. None means
            the model's own.
        device: Where to compute; None for the GPU if there is one.
        raw: Give what the network makes. By default it is projected onto the pictures whose grey,
            by H_t, is the input, see :class:`~spynco_mm.apis.Projection`.
        saturation: Factor of the chroma. The grey stays, so no pixel gets more than is in range.
        output: Which output of the pyramid, 1 for the final one, or ``"all"``. With 1 no other is
            computed.
        working_size: Colorize a copy that is reduced until its longer side has so many pixels, and
            apply only its chroma at full resolution: H_t of the result is the full-resolution grey,
            exactly. None colorizes at full resolution.
        memory: Bytes for the activations of an untiled pass. None means 2 GiB on the CPU, and half
            of what is free on a GPU.
        batch_size: Pictures of one size in a pass, at most.

    Attributes:
        generator: The network.
        translation: H_t.
        num_outputs: N.
        network_seconds: Time spent in the network so far.

    Raises:
        CheckpointError: The checkpoint cannot be used.
        ValueError: An argument is out of its range.
    """

    def __init__(
        self,
        config_or_checkpoint: PathLike | Config,
        checkpoint: PathLike | None = None,
        *,
        film: str | Sequence | None = None,
        device: str | torch.device | None = None,
        raw: bool = False,
        saturation: float = 1.0,
        output: int | str = 1,
        working_size: int | None = None,
        memory: int | None = None,
        batch_size: int = 8,
    ):
        config, checkpoint = split_config_and_checkpoint(config_or_checkpoint, checkpoint)
        device = find_device(device)  # before anything is loaded
        super().__init__(
            with_film(load_colorization(checkpoint, config), film),
            device,
            raw=raw,
            saturation=saturation,
            output=output,
            working_size=working_size,
            memory=memory,
            batch_size=batch_size,
        )

    def __call__(self, images: Any, hints: "Hints | Sequence[Hints | None] | None" = None) -> Any:
        """Colorize a picture or a batch; see the table above.

        Args:
            images: What goes in.
            hints: Colours that are known in places, of a picture, or of each of several.

        Raises:
            DataError: A picture file cannot be read, a picture is too large, or a hint is outside.
            TypeError: Something is no picture.
            ValueError: An array or tensor has no shape or values of a picture.
        """
        inputs = [as_input(image, self.translation) for image in as_list(images)]
        hints = [hints] if isinstance(hints, Hints) else hints
        results, _ = self._colorize(inputs, hints)
        if not self.all_outputs:
            results = [outputs[0] for outputs in results]
        return like_batch(images, results, self.all_outputs)

    def colorize_pictures(
        self, pictures: Sequence[Picture], hints: "Sequence[Hints | None] | None" = None
    ) -> list[list[Picture]]:
        """Colorize pictures with all that they carry: bit depth, transparency, metadata.

        Args:
            pictures: Decoded pictures.
            hints: Colours that are known in places of each.

        Returns:
            For each picture its outputs, in the order of ``outputs``.
        """
        inputs = [picture_input(p, self.translation) for p in pictures]
        results, layers = self._colorize(inputs, hints)
        for outputs, layer in zip(results, layers):
            for output in outputs:
                output.add_notes([layer.note] if layer and layer.note else [])
        return results

    def _colorize(
        self, inputs: Sequence[Input], hints: "Sequence[Hints | None] | None"
    ) -> "tuple[list[list], list[Layer | None]]":
        hints = hints or [None] * len(inputs)
        if len(hints) != len(inputs):
            raise ValueError(
                f"Colorizer: hints are of {len(hints)} pictures, but there are {len(inputs)}; give "
                "each its own, or None."
            )
        if self.projection is None and any(hints):
            raise ValueError("Colorizer: raw=True leaves out the projection, which hints need.")
        layers = [
            hint_layer(its, i.gray, self.projection) if its else None
            for i, its in zip(inputs, hints)
        ]
        results = self.colorize_gray([i.gray for i in inputs], [i.dtype for i in inputs], layers)
        results = [[i.back(output) for output in outputs] for i, outputs in zip(inputs, results)]
        return results, layers
