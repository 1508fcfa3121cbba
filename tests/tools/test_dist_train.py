"""The launchers, with two real processes on the CPU."""

import json
import os
import sys
from pathlib import Path

import pytest
import torch
from runs import ROOT, runner, script, two_processes, write_config

sys.path.insert(0, str(Path(__file__).parents[1] / "datasets"))
from cifar10_files import write_cifar10

# Two processes cannot share them evenly, and each has more than 50 batches of them: mmagic's timer
# looks at an evaluation from its 50th batch on.
TEST_IMAGES = 103
DATA = """
loader = dict(num_workers=0, persistent_workers=False, dataset=dict(data_root="{root}"))
train_dataloader = dict(batch_size=4, **loader)
train_dataloader["dataset"] = dict(indices=35, **loader["dataset"])
val_dataloader = dict(batch_size=1, **loader)
test_dataloader = val_dataloader
train_cfg = dict(max_epochs=2, val_interval=2)
model_wrapper_cfg = None  # tools/train.py knows which one several optimizers need
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cifar10")
    write_cifar10(folder / "cifar-10-batches-py", per_file=TEST_IMAGES)
    return write_config(folder / "small.py", "spynco_cifar10.py", DATA.format(root=folder))


@pytest.fixture(scope="module")
def trained(config, tmp_path_factory):
    work_dir = tmp_path_factory.mktemp("trained")
    run = script("dist_train", config, 2, "--work-dir", work_dir)
    assert run.returncode == 0, run.stdout
    return work_dir, run.stdout


def test_two_processes_train_one_model(trained):
    work_dir, log = trained
    assert log.startswith("2 processes and 0 GPU(s): running on the CPU, with gloo.")
    # 35 training images, 18 for each process, in batches of 4.
    assert "Epoch(train) [2][4/4]" in log
    assert "FutureWarning" not in log
    first, second = (torch.load(work_dir / f"rank{rank}.pth") for rank in range(2))
    assert first.keys() == second.keys() and {k.split(".")[0] for k in first} == {
        "generator",
        "discriminator",
    }
    assert all(torch.equal(first[key], second[key]) for key in first)
    checkpoint = torch.load(work_dir / "epoch_2.pth")
    assert checkpoint["state_dict"].keys() == first.keys()
    for key, value in checkpoint["state_dict"].items():
        assert torch.equal(value, first[key])
    assert not any("module" in key for key in first)
    # Every process has pools of its own, and they are kept.
    pools = checkpoint["image_buffers"]
    assert [[len(pool) for pool in of_process] for of_process in pools] == [[6, 6, 6]] * 2
    assert not torch.equal(pools[0][0], pools[1][0])


def test_two_processes_evaluate_as_one(trained, config, tmp_path):
    checkpoint = trained[0] / "epoch_2.pth"
    both = two_processes("test", config, checkpoint, "--work-dir", tmp_path / "two")
    batches = dict(test_dataloader__batch_size=50)
    runner(config, tmp_path / "one", load_from=str(checkpoint), **batches).test()
    assert all(run.returncode == 0 for run in both), both[0].stdout
    two, one = (
        json.loads((tmp_path / name / "results.json").read_text()) for name in ("two", "one")
    )
    assert two["settings"]["num_images"] == one["settings"]["num_images"] == TEST_IMAGES
    # Batches differ, and with them the order of float32 sums in the convolutions.
    for row in ("gray", "G1", "G2", "G3"):
        assert two[row] == pytest.approx(one[row], rel=1e-4)
    assert two["gray"] == pytest.approx(one["gray"], rel=1e-12)


def test_resume_on_another_number_of_processes(trained, config, tmp_path):
    options = dict(train_cfg__max_epochs=3, val_dataloader__batch_size=50)
    resumed = runner(config, tmp_path, resume=trained[0] / "epoch_2.pth", **options)
    warnings = []
    resumed.logger.warning = lambda text, *args: warnings.append(str(text))
    resumed.train()
    assert resumed.epoch == 3 and resumed.iter == 3 * 8
    assert any("processes 2 then, 1 now" in text for text in warnings)
    # The last epoch of three, linear to 0.
    assert resumed.optim_wrapper.get_lr()["generator.lr"] == [0]
    assert any("image pools of 2 processes, this run has 1" in text for text in warnings)


def test_diverged_run_stops_on_every_process(config, tmp_path):
    lr = "optim_wrapper.generator.optimizer.lr=1e30"
    first, second = two_processes("train", config, "--work-dir", tmp_path, "--cfg-options", lr)
    assert first.returncode == 1
    second.process.terminate()  # as a launcher does; until then it has said nothing
    assert second.returncode
    said = first.stdout + second.stdout
    assert said.count("FloatingPointError") == 1, said
    assert "became nan at iteration 2" in said
    assert "(epoch 1): no checkpoint was saved yet" in said
    assert "Traceback" not in said
    assert not list(tmp_path.glob("*.pth"))


def test_a_launch_that_fails_says_so_in_a_line(tmp_path):
    fails = tmp_path / "fails.py"
    fails.write_text(
        "import os, sys, time\n"
        "sys.exit('a sentence') if os.environ['RANK'] == '0' else time.sleep(60)\n"
    )
    launch = tmp_path / "launch.sh"
    launch.write_text(
        f"source {ROOT}/tools/torchrun.sh; "
        f"PROCESSES=2 run_distributed {os.path.relpath(fails, ROOT / 'tools')}\n"
    )
    run = script(launch)
    assert run.returncode == 1
    said = [line for line in run.stdout.splitlines() if "torch/distributed" not in line]
    assert said[1:] == [
        "a sentence",
        "Process 0 ended with exit code 1, so the run was stopped.",
    ]


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["dist_train", "a.py"], "Usage:"),
        (["dist_train", "a.py", "two"], "PROCESSES must be a positive number, got 'two'"),
        (["dist_train", "a.py", "0"], "PROCESSES must be a positive number, got '0'"),
        (["dist_test", "a.py", "2"], "Usage:"),
        (["slurm_train", "gpu", "job", "a.py"], "Usage:"),
    ],
)
def test_wrong_arguments(arguments, sentence):
    run = script(*arguments)
    assert run.returncode == 2 and sentence in run.stdout


def test_what_torchrun_is_asked_for(tmp_path):
    python = tmp_path / "python"
    python.write_text(
        """#!/bin/sh
case "$2" in *device_count*) echo 2 ;; *) shift 2; printf "%s\\n" "$@" ;; esac
"""
    )
    python.chmod(0o755)
    options = ["--work-dir", "work dir"]

    def asked(name, *words, **env):
        tools, *found = script(name, *words, PYTHON=str(python), **env).stdout.splitlines()
        return [word.replace(f"{tools}/", "") for word in found]

    rest = [*options, "--launcher", "pytorch"]
    assert asked("dist_train", "a b.py", 2, *options) == [
        *("--nnodes=1", "--nproc_per_node=2", "--standalone", "train.py", "a b.py"),
        *rest,
    ]
    place = dict(NNODES="2", NODE_RANK="1", MASTER_ADDR="there", PORT="7")
    assert asked("dist_test", "a.py", "a b.pth", 2, *options, **place) == [
        *("--nnodes=2", "--nproc_per_node=2"),
        *("--node_rank=1", "--master_addr=there", "--master_port=7"),
        *("test.py", "a.py", "a b.pth"),
        *rest,
    ]


def test_slurm(tmp_path):
    """What srun would be asked for."""
    srun = tmp_path / "srun"
    srun.write_text('#!/bin/sh\nprintf "%s\\n" "port $MASTER_PORT" "$@"\n')
    srun.chmod(0o755)
    env = dict(PATH=f"{tmp_path}:{os.environ['PATH']}", GPUS="16", SRUN_ARGS="--qos=low --time=1")
    options = ["--cfg-options", "a.b=1 2", "c=3"]
    run = script("slurm_train", "gpu", "my job", "a.py", "work dir", *options, **env)
    port, *arguments = run.stdout.splitlines()
    assert 12000 <= int(port.split()[1]) < 32000
    split = arguments.index(sys.executable)
    assert arguments[:split] == [
        "-p",
        "gpu",
        "--job-name=my job",
        "--gres=gpu:8",
        "--ntasks=16",
        "--ntasks-per-node=8",
        "--cpus-per-task=5",
        "--kill-on-bad-exit=1",
        "--qos=low",
        "--time=1",
    ]
    file, *rest = arguments[split + 2 :]
    assert file.endswith("tools/train.py")
    assert rest == ["a.py", "--work-dir", "work dir", "--launcher", "slurm", *options]
