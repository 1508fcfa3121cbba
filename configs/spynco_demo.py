# The embedded photographs, in minutes on two CPU cores: narrower than the paper's network (24
# filters in the stem instead of 64), and with exact consistency.
_base_ = [
    "./_base_/models/spyncogan_exact.py",
    "./_base_/datasets/demo.py",
    "./_base_/schedules/adam_20e.py",
    "./_base_/default_runtime.py",
]

model = dict(
    generator=dict(base_channels=24),
    discriminator=dict(channels=(24, 48, 96, 192)),
)
