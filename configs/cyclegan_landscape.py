_base_ = [
    "./_base_/models/cyclegan.py",
    "./_base_/datasets/landscape.py",
    "./_base_/schedules/cyclegan_50e.py",
    "./_base_/default_runtime.py",
]
