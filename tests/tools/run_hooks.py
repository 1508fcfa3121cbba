"""Hooks that look into the processes of a run, or end one as a power cut would."""

import os
import signal
from pathlib import Path

import torch
from interruptions import before_file_operations
from mmagic.registry import HOOKS
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper


@HOOKS.register_module()
class DumpWeights(Hook):
    """Saves the final weights of every process."""

    def after_train(self, runner):
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        torch.save(model.state_dict(), Path(runner.work_dir, f"rank{get_rank()}.pth"))


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


@HOOKS.register_module()
class Kill(Hook):
    """Kills the process after an iteration, or when a file is whole but not yet in its place."""

    def __init__(self, after_iter=None, before_file=None):
        self.after_iter = after_iter
        self.before_file = before_file

    def before_train(self, runner):
        def look(operation):
            if operation == f"replace {self.before_file}":
                kill()

        before_file_operations(look)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 == self.after_iter:
            kill()
