# For a folder of pictures of your own: see _base_/datasets/folder.py.
_base_ = [
    "./_base_/models/cyclegan.py",
    "./_base_/datasets/folder.py",
    "./_base_/schedules/cyclegan_100e.py",
    "./_base_/default_runtime.py",
]

# As the original does up to 128x128.
model = dict(generator=dict(num_blocks=6))
