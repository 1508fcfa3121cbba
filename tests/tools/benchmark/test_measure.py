"""What the benchmark measures, up to the measuring itself (test_benchmark_tool.py)."""

import os
import sys
from pathlib import Path

import pytest
import torch
from mmagic.registry import MODELS
from mmengine.config import Config

import benchmark
from benchmark.measure import _Worker
from spynco_mm.datasets import read_image
from spynco_mm.datasets.photographs import PHOTOGRAPHS, photograph_path


@pytest.mark.parametrize("name", benchmark.CONTENDERS)
def test_configs_train_alike(name):
    cfg = benchmark.model_config(name, benchmark.Cell(48, 3), "somewhere")
    assert cfg.train_dataloader.batch_size == 3
    assert cfg.train_dataloader.dataset.crop_size == 48
    adams = [w.optimizer for w in cfg.optim_wrapper.values() if isinstance(w, dict)]
    assert len(adams) == 2 and adams[0].lr == 2e-4  # The exact model has a slower discriminator.
    plain = name in ("spynco_naive", "cyclegan")
    assert [adam.fused for adam in adams] == [not plain] * 2
    assert cfg.val_cfg is None and cfg.default_hooks.checkpoint is None
    assert [hook.type for hook in cfg.custom_hooks] == ["LossHook"]


def test_overrides():
    cell = benchmark.Cell(32, 1)
    compiled = benchmark.model_config("cyclegan+compiled", cell, "")
    assert compiled.custom_hooks[-1] == dict(type="CompileHook", mode="default")
    naive = benchmark.model_config("spynco_naive", cell, "").model
    assert naive.fast is naive.generator.fast is False
    built_in = benchmark.model_config("cyclegan", cell, "").model
    assert built_in.generator.num_blocks == 9
    assert built_in.loss_config.id_loss_weight == 0.5
    assert benchmark.model_config("cyclegan_6blocks", cell, "").model.generator.num_blocks == 6


@pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without GPU")
def test_half_precision_needs_a_gpu():
    with pytest.raises(ValueError, match="needs a GPU"):
        benchmark.model_config("spynco", benchmark.Cell(32, 1, precision="bfloat16"), "")


def test_a_model_that_fails_says_so():
    """As does a crop that is larger than the photographs."""
    with pytest.raises(RuntimeError, match=r"spynco at 4096×4096, batch 1: .*crop"):
        benchmark.measure(["spynco"], benchmark.Cell(4096, 1, threads=1), rounds=1)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_process_whose_loader_has_one_of_its_own():
    """As on a GPU. Both end with the parent, whose end closes the connection."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    worker = _Worker("spynco", benchmark.Cell(32, 1, threads=1, workers=1))
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == visible
    assert worker.receive() == "ready"
    assert worker.ask("turn", 1, False)["seconds"] > 0
    pid = worker.process.pid
    loaders = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    assert len(loaders) == 1
    worker.connection.close()
    worker.process.join(60)
    assert worker.process.exitcode == 0 and not Path("/proc", loaders[0]).exists()


def results():
    """Two models as ``measure`` gives them."""
    spread = dict(median=2.0, min=1.0, max=4.0)
    row = dict(
        iteration=spread,
        ratio=spread,
        step=dict(median=1.5, min=1.5, max=1.5),
        inference=spread,
        inference_ratio=spread,
        parts=dict(zip(benchmark.PARTS, (1, 2, 3, 0, 4, 0, 0))),
        parameters=1_500_000,
        flops=3e9,
        operations=700,
        peak_memory=7 * 2**20,
        utilization=0.25,
    )
    how = dict(device="cpu", precision="float32", threads=2, compile=None)
    machine = dict(processor="P", torch="T", **how)
    return dict(machine=machine, cells=[dict(size=32, batch=4, models=dict(a=row, b=row))])


def test_table():
    # Cells are padded to the width of their column.
    lines = [" ".join(x.split()) for x in benchmark.benchmark_report(results()).splitlines()]
    time = "2000.0 (1000.0 to 4000.0) | 2.00 (1.00 to 4.00)"
    step = "1500.0 (1500.0 to 1500.0)"
    assert lines[2] == f"| 32 | 4 | a | {time} | {step} | 700 | {time} | 7 | 1.500 | 3.0 | 25% |"
    assert lines[-1] == "| 32 | 4 | b | 10% | 20% | 30% | 0% | 40% | 0% | 0% |"
    on_gpu = results()
    on_gpu["machine"].update(compile="default", device="cuda")
    for row in on_gpu["cells"][0]["models"].values():
        row.update(busy=0.5, launches=70, graph_pool=5 * 2**20)
    report = benchmark.benchmark_report(on_gpu)
    assert ", 2 threads, networks compiled (default). " in report
    assert f"{step} | 500.00 | 25% | 70 | 5 | {time}" in " ".join(report.split())
    colorize = dict(
        parameters=2_000_000,
        megapixels=3.5,
        megapixels_per_second=dict(median=2.0, min=1.0, max=4.0),
        share_outside_network=dict(median=0.25, min=0.1, max=0.5),
    )
    last = benchmark.benchmark_report({**results(), "colorize": colorize}).splitlines()[-1]
    assert "2.000 M parameters, 3.50 megapixels" in last
    assert "2.00 (1.00 to 4.00) megapixels per second, 25 (10 to 50) % of the time outside" in last
    widths = {line.count("|") for line in lines[:4]}, {line.count("|") for line in lines[-4:]}
    assert widths == ({14}, {11})


def test_colorizing_the_photographs(tmp_path):
    """Megapixels from files to files, with a generator that is next to nothing."""
    model = dict(
        type="SpyncoGAN",
        generator=dict(type="SpyncoGenerator", base_channels=2, num_blocks=1),
        data_preprocessor=dict(
            type="DataPreprocessor", mean=127.5, std=127.5, output_channel_order="RGB"
        ),
    )
    network = MODELS.build(model)
    text = Config(dict(model=model)).pretty_text
    checkpoint = tmp_path / "small.pth"
    torch.save(dict(meta=dict(cfg=text), state_dict=network.state_dict()), checkpoint)
    cell = benchmark.Cell(32, 1, threads=torch.get_num_threads())
    row = benchmark.measure_colorize(str(checkpoint), cell, rounds=1)
    sizes = [read_image(photograph_path(name)).shape[:2] for name in PHOTOGRAPHS]
    assert row["megapixels"] == pytest.approx(sum(h * w for h, w in sizes) / 1e6)
    assert row["megapixels_per_second"]["median"] > 0
    assert 0 < row["share_outside_network"]["median"] < 1
    assert row["parameters"] == sum(p.numel() for p in network.generator.parameters())


def test_chart():
    (cell,) = results()["cells"]
    several = [cell, {**cell, "batch": 8}]
    pngs = [benchmark.benchmark_chart(cells, benchmark.PARTS) for cells in ([cell], several)]
    widths = [int.from_bytes(png[16:20], "big") for png in pngs if png.startswith(b"\x89PNG")]
    # A panel for each cell, and, of more than one, how the cost grows.
    assert widths[1] > 2.2 * widths[0] > 500
