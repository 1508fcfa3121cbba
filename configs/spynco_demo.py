# The paper's network on the embedded photographs, in minutes on two CPU cores: narrower (24 filters in
# the stem instead of 64), all else as published.
_base_ = [
    "./_base_/models/spyncogan.py",
    "./_base_/datasets/demo.py",
    "./_base_/schedules/adam_10e.py",
    "./_base_/default_runtime.py",
]

model = dict(
    generator=dict(base_channels=24),
    discriminator=dict(channels=(24, 48, 96, 192)),
)
