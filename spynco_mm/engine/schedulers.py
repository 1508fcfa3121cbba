"""The learning rate of section 6.2.2, for a training of any length."""

from mmagic.registry import PARAM_SCHEDULERS
from mmengine.optim import LinearLR


@PARAM_SCHEDULERS.register_module()
class LinearDecayLR(LinearLR):
    """Constant for a part of the training, then linear to 0 (section 6.2.2).

    mmengine's ``LinearLR`` names the epoch where the decay begins, so a run that is made longer or
    shorter would decay too early or not at all. Here the decay follows the length of the run: the
    Runner gives ``end`` where a config has none, ``train_cfg.max_epochs`` or ``max_iters``.

    Args:
        optimizer: Optimizer wrapper.
        end: Length of the training, in epochs, or in iterations with ``by_epoch=False``.
        constant_for: Fraction of ``end`` before the decay, in [0, 1).
        by_epoch: Whether the rate changes once an epoch. ``convert_to_iter_based=True`` in a config
            gives lengths in epochs and changes the rate in every iteration.

    Raises:
        ValueError: ``constant_for`` is out of its range.
    """

    def __init__(
        self, optimizer, end: int, constant_for: float = 0.5, by_epoch: bool = True, **kwargs
    ):
        if not 0 <= constant_for < 1:
            raise ValueError(f"LinearDecayLR: constant_for must be in [0, 1), got {constant_for}.")
        super().__init__(
            optimizer,
            start_factor=1.0,
            end_factor=0.0,
            begin=int(constant_for * end),
            end=end,
            by_epoch=by_epoch,
            **kwargs,
        )

    @classmethod
    def build_iter_from_epoch(
        cls, *args, end: int, epoch_length: int, by_epoch: bool = True, **kwargs
    ) -> "LinearDecayLR":
        """The same decay in iterations, from a length in epochs."""
        return cls(*args, end=end * epoch_length, by_epoch=False, **kwargs)
