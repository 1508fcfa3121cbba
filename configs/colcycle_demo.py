# The baseline of spynco_demo.py: the same width, photographs and schedule.
_base_ = [
    "./_base_/models/colcycle.py",
    "./_base_/datasets/demo.py",
    "./_base_/schedules/cyclegan_10e.py",
    "./_base_/default_runtime.py",
    "./_base_/widths.py",
]

model = _base_.demo
