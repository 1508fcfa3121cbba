_base_ = [
    "./_base_/models/spyncogan_exact.py",
    "./_base_/datasets/ucmerced.py",
    "./_base_/schedules/adam_100e.py",
    "./_base_/default_runtime.py",
]

# A slower discriminator is one that the generator can follow.
optim_wrapper = dict(discriminator=dict(optimizer=dict(lr=5e-5)))
