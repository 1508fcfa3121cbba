"""A data set of images without files and a model without training, run by real runners.

Run as a script by every process of a distributed evaluation:
``python -m torch.distributed.run --nproc-per-node 2 toy_colorizer.py FOLDER``.
"""

import json
import os
import sys
from pathlib import Path

import torch
from mmagic.structures import DataSample
from mmengine.dist import get_rank, is_distributed
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, MODELS
from mmengine.runner import Runner

import spynco_mm
import spynco_mm.evaluation  # noqa: F401

NUM_IMAGES = 7


def make_image(index: int, size: int = 16) -> torch.Tensor:
    """3×H×W bytes, BGR: no two alike."""
    generator = torch.Generator().manual_seed(index)
    return torch.randint(0, 256, (3, size, size), generator=generator, dtype=torch.uint8)


def make_gray(image: torch.Tensor) -> torch.Tensor:
    return image.float().mean(0, keepdim=True).to(torch.uint8).expand_as(image)


@DATASETS.register_module()
class ToyImages(torch.utils.data.Dataset):
    metainfo = {}

    def __init__(self, sizes=(16,)):
        self.sizes = sizes

    def __len__(self):
        return NUM_IMAGES

    def __getitem__(self, index):
        image = make_image(index, self.sizes[index % len(self.sizes)])
        sample = DataSample(
            img_color=image, img_gray=make_gray(image), metainfo=dict(sample_idx=index)
        )
        return dict(inputs=image, data_samples=sample)


@MODELS.register_module()
class ToyColorizer(BaseModel):
    """G_i goes ``1 - i / 4`` of the way from grey to the real colours, then leaves [0, 255]."""

    def __init__(self, num_outputs=3, pyramid=True):
        super().__init__()
        self.num_outputs = num_outputs
        self.pyramid = pyramid
        self.gain = torch.nn.Parameter(torch.tensor(1.1))

    def outputs(self, sample: DataSample) -> torch.Tensor:
        gray, real = sample.img_gray.float(), sample.img_color.float()
        shares = [1 - i / 4 for i in range(1, self.num_outputs + 1)]
        return self.gain * torch.stack([gray + share * (real - gray) for share in shares])

    def forward(self, inputs, data_samples, mode):
        if mode == "loss":
            return dict(loss=(self.gain - 1) ** 2)
        for sample in data_samples:
            outputs = self.outputs(sample)
            sample.set_field(outputs[0], "fake_color")
            if self.pyramid:
                sample.set_field(outputs, "fake_color_pyramid")
        return data_samples


def make_runner(work_dir, multi_loop=False, sizes=(16,), model=None, **kwargs) -> Runner:
    """A runner that validates and tests on the seven images, in batches of two."""
    loader = dict(
        batch_size=2,
        num_workers=0,
        sampler=dict(type="mmengine.DefaultSampler", shuffle=False),
        dataset=dict(type="mmengine.ToyImages", sizes=sizes),
        collate_fn=dict(type="pseudo_collate"),
    )
    evaluator = dict(type="ColorizationMetric")
    if multi_loop:
        evaluator = dict(type="Evaluator", metrics=[evaluator])
    prefix = "Multi" if multi_loop else "mmengine."
    distributed = is_distributed()
    return Runner(
        model=model or dict(type="mmengine.ToyColorizer"),
        work_dir=str(work_dir),
        experiment_name=f"toy_{Path(work_dir).parent.name}_{Path(work_dir).name}",
        val_dataloader=loader,
        val_evaluator=evaluator,
        val_cfg=dict(type=f"{prefix}ValLoop"),
        test_dataloader=loader,
        test_evaluator=evaluator,
        test_cfg=dict(type=f"{prefix}TestLoop"),
        default_scope="mmagic",
        launcher="pytorch" if distributed else "none",
        cfg=dict(
            # Without a GPU there is no device to name.
            model_wrapper_cfg=dict(type="MMDistributedDataParallel", device_ids=None)
        )
        if distributed
        else None,
        log_level="WARNING",
        **kwargs,
    )


def validate(runner: Runner) -> dict:
    """The metrics of a validation, from a hook: mmagic's loop does not return them."""
    found = {}

    class Keep(Hook):
        def after_val_epoch(self, runner, metrics=None):
            found.update(metrics)

    runner.register_hook(Keep())
    runner.val()
    return found


if __name__ == "__main__":
    torch.distributed.init_process_group("gloo")
    folder = Path(sys.argv[1])
    found = {
        name: validate(make_runner(folder / name, multi_loop=name == "multi"))
        for name in ("plain", "multi")
    }
    (folder / f"rank{get_rank()}.json").write_text(json.dumps(found))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
    # Not through the interpreter's end: torch 2.14 with gloo now and then aborts there, with
    # "terminate called without an active exception", in ten lines of plain torch as well.
    os._exit(0)
