"""What every network of ours starts as."""

from collections.abc import Sequence
from numbers import Integral

from mmagic.models.utils import generation_init_weights
from mmengine.model import BaseModule


def require_whole(owner: object, at_least: int, **arguments: int | Sequence[int]) -> None:
    """Refuse arguments that are no whole numbers of at least so much, or lists of such.

    Raises:
        ValueError: The message names the owner's class, the argument and its value.
    """
    for name, value in arguments.items():
        numbers = value if isinstance(value, (list, tuple)) else (value,)
        if any(not isinstance(n, Integral) or n < at_least for n in numbers):
            raise ValueError(
                f"{type(owner).__name__}: {name} must be whole and at least {at_least}, got "
                f"{value}."
            )


class GANModule(BaseModule):
    """A network that starts as mmagic's generators and discriminators do.

    Args:
        init_cfg: ``dict(type="normal" | "xavier" | "kaiming", gain=...)``, or mmengine's
            ``dict(type="Pretrained", checkpoint=...)``. None means normal, 0.02.
    """

    def __init__(self, init_cfg: dict | None = None):
        super().__init__(init_cfg=init_cfg or dict(type="normal", gain=0.02))
        # Not mmagic's "orthogonal": it fails on convolutions without bias.
        kind = self.init_cfg.get("type") if isinstance(self.init_cfg, dict) else None
        if kind not in ("normal", "xavier", "kaiming", "Pretrained"):
            raise ValueError(
                f"{type(self).__name__}: the type of init_cfg is 'normal', 'xavier', 'kaiming' or "
                f"'Pretrained', got {init_cfg}."
            )
        if kind != "Pretrained" and (more := {*self.init_cfg} - {"type", "gain"}):
            raise ValueError(
                f"{type(self).__name__}: init_cfg has a type and a gain, not {sorted(more)}."
            )

    def init_weights(self) -> None:
        if self.init_cfg["type"] == "Pretrained":
            super().init_weights()
            return
        generation_init_weights(self, self.init_cfg["type"], self.init_cfg.get("gain", 0.02))
        self._is_init = True
