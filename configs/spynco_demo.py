# The paper's network on the embedded photographs, in minutes on two CPU cores: both networks start with
# 24 filters instead of 64, and there are 10 epochs of batch 4; layers, losses and weights as published.
_base_ = [
    "./_base_/models/spyncogan.py",
    "./_base_/datasets/demo.py",
    "./_base_/schedules/adam_10e.py",
    "./_base_/default_runtime.py",
    "./_base_/widths.py",
]

model = _base_.demo
