"""A bias in front of instance norm."""

import torch
from torch import Tensor


class _InertBias(torch.autograd.Function):
    """Identity on features; a gradient of exactly 0 for the bias."""

    @staticmethod
    def forward(ctx, x: Tensor, bias: Tensor) -> Tensor:
        ctx.bias_shape = bias.shape
        ctx.mark_dirty(x)  # Or torch returns a view, which may not be changed in place.
        return x

    @staticmethod
    def backward(ctx, grad: Tensor):
        return grad, grad.new_zeros(ctx.bias_shape)


def inert_bias(x: Tensor, bias: Tensor | None) -> Tensor:
    """N×C×H×W features without a bias that has no effect, since instance norm follows.

    Instance norm subtracts the mean of each channel, and with it the bias. The true gradient of
    such a bias is 0, but rounding makes it a little noise, which Adam scales up to steps of the
    learning rate. Here it is not added, and its gradient is exactly 0. There is one form only.
    """
    if bias is None or not torch.is_grad_enabled():
        return x
    return _InertBias.apply(x, bias)
