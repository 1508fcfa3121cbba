"""The paper's networks in plain NumPy, float64, to compare with. Arrays are N×C×H×W."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

PAD_MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "edge"}


def conv(x, weight, bias=None, stride=(1, 1), pad=(0, 0), padding_mode="zeros"):
    x = np.pad(x, [(0, 0), (0, 0), (pad[0],) * 2, (pad[1],) * 2], PAD_MODES[padding_mode])
    windows = sliding_window_view(x, weight.shape[2:], (2, 3))[:, :, :: stride[0], :: stride[1]]
    y = np.einsum("nchwij,ocij->nohw", windows, weight, optimize=True)
    return y if bias is None else y + bias[:, None, None]


def separable_conv(x, layers, stride=1, pad=0, padding_mode="zeros"):
    """A column, then a row; ``layers`` is [(weight, bias), (weight, bias)]."""
    (column, b1), (row, b2) = layers
    x = conv(x, column, b1, (stride, 1), (pad, 0), padding_mode)
    return conv(x, row, b2, (1, stride), (0, pad), padding_mode)


def instance_norm(x, weight=1.0, bias=0.0):
    mean, var = x.mean((2, 3), keepdims=True), x.var((2, 3), keepdims=True)
    weight, bias = (np.reshape(v, (-1, 1, 1)) for v in (weight, bias))
    return (x - mean) / np.sqrt(var + 1e-5) * weight + bias


def upsample(x, mode="nearest"):
    """``up(.)`` of Eq. 2: twice the size."""
    for axis in (2, 3):
        if mode == "nearest":
            x = np.repeat(x, 2, axis)
            continue
        # Bilinear: new centres lie a quarter pixel beside the old ones; the border is continued.
        first, last = np.take(x, [0], axis), np.take(x, [-1], axis)
        before = np.concatenate([first, np.delete(x, -1, axis)], axis)
        after = np.concatenate([np.delete(x, 0, axis), last], axis)
        pairs = np.stack([0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after], axis + 1)
        x = pairs.reshape([2 * s if a == axis else s for a, s in enumerate(x.shape)])
    return x


def generator(network, x, num_down, num_blocks, num_outputs, padding_mode="zeros",
              upsample_mode="nearest", norm=instance_norm):  # fmt: skip
    """Figure 4a and Eq. 3, with the parameters of a network in the order of its definition."""
    numbers = iter([p.detach().double().numpy() for p in network.parameters()])

    def layer():
        return next(numbers), next(numbers)

    def same(x, weight, bias):
        return conv(x, weight, bias, (1, 1), [k // 2 for k in weight.shape[2:]], padding_mode)

    def separable(x, stride=1):
        layers = [layer(), layer()]
        return separable_conv(x, layers, stride, layers[0][0].shape[2] // 2, padding_mode)

    def finish(x):
        return np.maximum(norm(x), 0)

    x = finish(same(x, *layer()))
    for _ in range(num_down):
        x = finish(separable(x, stride=2))
    for _ in range(num_blocks):
        x = x + finish(same(x, *layer()))
    features = [x]  # ..., O_d2, O_d1
    for _ in range(num_down):
        features.append(finish(separable(upsample(features[-1], upsample_mode))))
    mapping = layer()
    assert next(numbers, None) is None
    outputs = []
    for i in range(1, num_outputs + 1):
        o = features[-i]
        for _ in range(i - 1):  # up^(i-1), Eq. 2
            o = upsample(o, upsample_mode)
        outputs.append(np.tanh(same(o, *mapping)))
    return outputs


def discriminator(network, x, strides, kernel_size=4, slope=0.2):
    """Figure 4b, with affine instance norm on all blocks but the first."""
    numbers = iter([p.detach().double().numpy() for p in network.parameters()])
    for i, stride in enumerate(strides):
        layers = [(next(numbers), None), (next(numbers), next(numbers))]
        x = separable_conv(x, layers, stride, (kernel_size - 1) // 2)
        if i:
            x = instance_norm(x, next(numbers), next(numbers))
        x = np.where(x > 0, x, slope * x)
    x = conv(x, next(numbers), next(numbers))
    assert next(numbers, None) is None
    return x
