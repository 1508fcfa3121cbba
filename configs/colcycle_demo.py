# The baseline of spynco_demo.py: the same width, photographs and schedule.
_base_ = [
    "./_base_/models/colcycle.py",
    "./_base_/datasets/demo.py",
    "./_base_/schedules/cyclegan_20e.py",
    "./_base_/default_runtime.py",
]

model = dict(
    generator=dict(base_channels=24),
    discriminator=dict(channels=(24, 48, 96, 192)),
)
