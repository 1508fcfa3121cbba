"""A run of a few numbers through mmengine's own Runner, for what hooks do around the training."""

from itertools import count
from pathlib import Path

import torch
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.registry import METRICS, MODELS
from mmengine.runner import Runner
from torch.utils.data import Dataset

from spynco_mm.engine.run_folder import resume_point

#: What the evaluations measure, by epoch; the best ones are those of 1, 2 and 5.
SCORES = (9.0, 5.0, 3.0, 4.0, 3.5, 1.0, 2.0)
ITERS = 5
RUNS = count()


@MODELS.register_module()
class TinyModel(BaseModel):
    """Two weights that follow random numbers; it knows how long it has been trained."""

    def __init__(self):
        super().__init__()
        self.generator = torch.nn.Linear(2, 1, bias=False)
        torch.nn.init.constant_(self.generator.weight, 1.0)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, x, mode="loss"):
        if mode == "predict":
            return [{"score": SCORES[int(self.steps) // ITERS]}]
        self.steps += 1
        noise = torch.randn(len(x), 2)
        return dict(loss_fit=((self.generator(noise) - x) ** 2).mean(), seen=torch.tensor(1.0))


@METRICS.register_module()
class Score(BaseMetric):
    """The mean score."""

    def process(self, data_batch, data_samples):
        self.results += data_samples

    def compute_metrics(self, results):
        return {"score": sum(result["score"] for result in results) / len(results)}


class Numbers(Dataset):
    """So many numbers."""

    def __init__(self, length):
        self.length = length

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        return dict(x=torch.tensor([float(index % 3)]))


def loader(length):
    return dict(
        batch_size=2,
        collate_fn=dict(type="default_collate"),
        sampler=dict(type="mmengine.DefaultSampler", shuffle=True),
        dataset=Numbers(length),
    )


def tiny_runner(work_dir, resume=None, hooks=(), epochs=6, **options) -> Runner:
    """A runner with the hooks of our configs; ``resume="auto"`` as ``--resume`` does."""
    if resume == "auto":
        resume, _ = resume_point(work_dir)
    settings = dict(
        model=dict(type="mmengine.TinyModel"),
        work_dir=str(work_dir),
        train_dataloader=loader(2 * ITERS),
        val_dataloader=loader(2),
        val_evaluator=dict(type="mmengine.Score"),
        val_cfg=dict(type="mmengine.ValLoop"),
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        optim_wrapper=dict(
            type="mmengine.OptimWrapper", optimizer=dict(type="SGD", lr=0.1, momentum=0.9)
        ),
        default_hooks=dict(
            timer=dict(type="mmengine.IterTimerHook"),
            logger=dict(type="mmengine.LoggerHook", interval=2),
            checkpoint=dict(
                type="CheckpointHook",
                interval=1,
                max_keep_ckpts=2,
                save_best="score",
                rule="less",
                backend_args=dict(backend="atomic"),
            ),
        ),
        custom_hooks=[
            dict(type="LossHook"),
            dict(type="ExactResumeHook"),
            *hooks,
            dict(type="HistoryHook"),
        ],
        randomness=dict(seed=0),
        experiment_name=f"tiny_{next(RUNS)}",  # mmengine allows each name once in a process
        default_scope="mmagic",
        log_level="ERROR",
        resume=resume is not None,
        load_from=resume and str(resume),
    )
    return Runner(**{**settings, **options})


def checkpoint(folder, epoch) -> dict:
    return torch.load(Path(folder, f"epoch_{epoch}.pth"))
