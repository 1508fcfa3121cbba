_base_ = [
    "./_base_/models/colcycle.py",
    "./_base_/datasets/ucmerced.py",
    "./_base_/schedules/cyclegan_100e.py",
    "./_base_/default_runtime.py",
]
