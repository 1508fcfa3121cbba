import pytest
import torch
from both_forms import assert_same, choose_forms, normal
from simulated_gpu import simulated_gpu

from spynco_mm.models.ops import norm_relu


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
# Values that go at a time: of one sample, and of all of them.
@pytest.mark.parametrize("block", [1, 10**6, "gpu"])
@pytest.mark.parametrize("slope", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("residual", [False, True])
def test_both_forms(monkeypatch, memory_format, block, slope, residual):
    choose_forms(monkeypatch, block)
    monkeypatch.setattr(norm_relu, "BLOCK", block)

    def op(x, residual=None, *, fast):
        return norm_relu.norm_relu(x, residual, 1e-3, slope, fast)

    tensors = [normal(2, 3, 7, 9), normal(2, 3, 7, 9, seed=2)][: 1 + residual]
    assert_same(op, *tensors, memory_format=memory_format)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("mean, side", [(100, 1000), (100, 2000), (0, 2000)])
def test_statistics_of_large_maps(mean, side, memory_format):
    """To 1e-5 of the deviation, as in double precision."""
    x = (normal(1, 2, side, side).float() + mean).to(memory_format=memory_format)
    wide = x.double()
    variance = wide.var((2, 3), unbiased=False, keepdim=True)
    expected = (wide - wide.mean((2, 3), keepdim=True)) / (variance + 1e-5).sqrt()
    ctx = torch.autograd.function.FunctionCtx()
    y = norm_relu._NormReLU.forward(ctx, x, None, 1e-5, 1.0)
    assert (ctx.to_save[1].double() * (variance + 1e-5).sqrt() - 1).abs().max() < 1e-5
    # The mean itself, and with it each value, is rounded in single precision.
    assert (y.double() - expected).abs().max() < 1e-5 + 4e-7 * mean


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_on_a_gpu(dtype, memory_format):
    """All samples at once, with statistics in single precision; simulated, hence by hand."""
    counts = []
    for n in (1, 64):
        with simulated_gpu() as launches:
            x, residual, grad = torch.empty(3, n, 64, 32, 32, dtype=dtype, device="cuda")
            x, residual, grad = (t.to(memory_format=memory_format) for t in (x, residual, grad))
            ctx = torch.autograd.function.FunctionCtx()
            y = norm_relu._NormReLU.forward(ctx, x, residual, 1e-5, 0.2)
            ctx.saved_tensors = ctx.to_save
            with torch.no_grad():
                grad_x, grad_residual, *_ = norm_relu._NormReLU.backward(ctx, grad)
        for tensor in (y, grad_x, grad_residual):
            assert tensor.is_cuda and tensor.dtype == dtype and tensor.shape == x.shape
        assert ctx.to_save[1].dtype == torch.float32
        counts.append(launches.names)
    assert counts[0] == counts[1] and len(counts[1]) < 14


def test_no_second_derivatives():
    """They would be silently wrong."""
    x = normal(2, 3, 5, 6).requires_grad_()
    loss = norm_relu.norm_relu(x * 1).square().sum()
    with pytest.raises(RuntimeError, match=r"no second derivatives .* with fast=False"):
        loss.backward(create_graph=True)
