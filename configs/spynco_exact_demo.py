# spynco_demo.py with exact consistency, in the same time.
_base_ = [
    "./_base_/models/spyncogan_exact.py",
    "./_base_/datasets/demo.py",
    "./_base_/schedules/adam_10e.py",
    "./_base_/default_runtime.py",
    "./_base_/widths.py",
]

model = _base_.demo

# A slower discriminator is one that the generator can follow.
optim_wrapper = dict(discriminator=dict(optimizer=dict(lr=5e-5)))
