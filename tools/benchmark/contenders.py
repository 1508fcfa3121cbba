"""What is compared: models, and the sizes they are compared at."""

from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config

from spynco_mm.engine.launch import enable_amp, enable_compile, set_cuda_graph

CONFIGS = Path(__file__).resolve().parents[2] / "configs"

_PLAIN_ADAM = {"optimizer.fused": False}

#: Ends the name of a model whose networks are compiled, whatever the others' are.
COMPILED = "+compiled"

#: Config and overrides of each model. The keys of optimizers are filled in for both networks.
CONTENDERS = {
    "spynco": ("spynco_cifar10.py", {}),
    "spynco_exact": ("spynco_exact_cifar10.py", {}),
    "spynco_naive": (
        "spynco_cifar10.py",
        {
            "model.fast": False,
            "model.generator.fast": False,
            "model.discriminator.fast": False,
            **_PLAIN_ADAM,
        },
    ),
    "colcycle": ("colcycle_cifar10.py", {}),
    # As in mmagic's own configs: 9 blocks at every size, identity weight 0.5, plain Adam.
    "cyclegan": (
        "cyclegan_cifar10.py",
        {
            "model.generator.num_blocks": 9,
            "model.loss_config.id_loss_weight": 0.5,
            **_PLAIN_ADAM,
        },
    ),
    "cyclegan_6blocks": ("cyclegan_cifar10.py", {"model.generator.num_blocks": 6}),
}

#: Photographs that are large enough to be cropped without reduction.
_PHOTOS = ("china", "flower", "coffee", "rocket", "retina")


@dataclass(frozen=True)
class Cell:
    """What is measured at once: a size (pixels, square), a batch, and how they are computed."""

    size: int
    batch: int
    device: str = "cpu"
    precision: str = "float32"
    threads: int = 2
    compile: str | None = None  # mode of torch.compile
    workers: int = 0  # processes of the data loader
    cuda_graph: str = "on"  # or "off"

    def __str__(self) -> str:
        return f"{self.size}×{self.size}, batch {self.batch}"


def model_config(name: str, cell: Cell, work_dir: str) -> Config:
    """The config of a model of :data:`CONTENDERS` on crops of the embedded photographs."""
    file, overrides = CONTENDERS[name.removesuffix(COMPILED)]
    cfg = Config.fromfile(CONFIGS / file)
    for key, value in overrides.items():
        networks = cfg.optim_wrapper if key.startswith("optimizer.") else {}
        keys = [f"optim_wrapper.{n}.{key}" for n in networks if n != "constructor"] or [key]
        cfg.merge_from_dict(dict.fromkeys(keys, value))
    cfg.work_dir = work_dir
    cfg.train_dataloader.update(
        batch_size=cell.batch,
        num_workers=cell.workers,
        persistent_workers=bool(cell.workers),
        dataset=dict(
            type="EmbeddedPhotographs",
            photos=_PHOTOS,
            crop_size=cell.size,
            short_side=None,
            crops_per_photo=200 * cell.batch,
            pipeline=cfg.train_dataloader.dataset.pipeline,
        ),
    )
    # Only training is measured.
    for split in ("val", "test"):
        for part in ("dataloader", "evaluator", "cfg"):
            cfg[f"{split}_{part}"] = None
    cfg.train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=10**6)
    cfg.default_hooks.checkpoint = None
    cfg.custom_hooks = [hook for hook in cfg.custom_hooks if hook["type"] == "LossHook"]
    if cell.precision != "float32":
        enable_amp(cfg, cell.precision)
    if mode := cell.compile or ("default" if name.endswith(COMPILED) else None):
        enable_compile(cfg, mode)
    if cell.device == "cuda":
        set_cuda_graph(cfg, cell.cuda_graph)
    return cfg
