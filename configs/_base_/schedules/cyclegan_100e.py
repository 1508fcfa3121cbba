# SpyncoGan's optimizers and schedule, under the names of mmagic's CycleGAN.
_base_ = ["./adam_100e.py"]

optim_wrapper = dict(
    _delete_=True,
    constructor="MultiOptimWrapperConstructor",
    generators=_base_.optim_wrapper.generator,
    discriminators=_base_.optim_wrapper.discriminator,
)
