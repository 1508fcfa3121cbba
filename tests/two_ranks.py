"""What each of two processes trains, for test_compat: ``two_ranks.py FOLDER RANK``.

Every model takes two steps on its half of each batch; rank 0 also trains one on the whole batches.
"""

import atexit
import copy
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from mmengine import MessageHub
from mmengine.model import MMSeparateDistributedDataParallel
from mmengine.registry import init_default_scope

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent / "models")]

import spynco_mm  # noqa: E402

init_default_scope("mmagic")

from mmagic.models import CycleGAN  # noqa: E402
from mmengine.runner.checkpoint import _load_checkpoint  # noqa: E402
from small_models import batch, build, optimizers  # noqa: E402
from test_mixing import PATCH_D, SPYNCO_D, SPYNCO_G, translation_model  # noqa: E402

from spynco_mm.utils.checkpoint import CheckpointError  # noqa: E402


def train(model, names, data, wrap):
    # SGD, since Adam would hide a gradient that is too large by a factor.
    wrappers = optimizers(model, names, lr=0.01)
    if wrap:
        wrapped = MMSeparateDistributedDataParallel(
            model, broadcast_buffers=False, find_unused_parameters=False
        )
    for i, inputs in enumerate(data):
        MessageHub.get_current_instance().update_info("iter", i)
        (wrapped if wrap else model).train_step(copy.deepcopy(inputs), wrappers)
    state = {name.replace(".module.", "."): p for name, p in model.state_dict().items()}
    return torch.cat([state[name].flatten().double() for name in sorted(state)])


def part(data, which):
    return dict(
        inputs={key: value[which] for key, value in data["inputs"].items()},
        data_samples=data["data_samples"][which],
    )


def cyclegan():
    # Batch norm, its default, would see half the batch.
    discriminator = {**PATCH_D, "norm_cfg": dict(type="IN")}
    return translation_model("CycleGAN", SPYNCO_G, discriminator, buffer_size=0).double()


def spyncogan():
    return build(discriminator=SPYNCO_D).double()


if __name__ == "__main__":
    atexit.register(print, "the interpreter ended by itself")
    folder, rank = Path(sys.argv[1]).resolve(), int(sys.argv[2])
    dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=2)
    whole = [batch(4, seed=seed) for seed in (0, 1)]
    half = [part(data, slice(2 * rank, 2 * rank + 2)) for data in whole]
    networks = ("generator", "discriminator")
    found = {
        "spyncogan": train(spyncogan(), networks, half, True),
        "cyclegan": train(cyclegan(), [f"{n}s" for n in networks], half, True),
    }
    mended, CycleGAN.train_step = CycleGAN.train_step, CycleGAN.train_step.__wrapped__
    found["cyclegan as it comes"] = train(cyclegan(), [f"{n}s" for n in networks], half, True)
    CycleGAN.train_step = mended
    torch.save(found, folder / f"rank{rank}.pt")
    dist.barrier()
    if rank == 0:
        # Alone: without the group, nobody to average with.
        dist.is_initialized, original = (lambda: False), dist.is_initialized
        union = {
            "spyncogan": train(spyncogan(), networks, whole, False),
            "cyclegan": train(cyclegan(), [f"{n}s" for n in networks], whole, False),
        }
        dist.is_initialized = original
        torch.save(union, folder / "union.pt")
    torch.hub.set_dir(folder / "hub")
    try:
        _load_checkpoint("http://127.0.0.1:9/none.pth")  # only the first process fetches
    except CheckpointError as error:
        print(type(error).__name__, end=" ")
    print("done", end="")
    spynco_mm.compat.leave_gloo()
    print("not reached")
