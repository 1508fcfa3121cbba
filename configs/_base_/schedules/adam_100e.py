# Section 6.2.2: lr 2e-4, constant for half the epochs, then linear to 0.
# fused: one kernel for all tensors.
adam = dict(type="Adam", lr=2e-4, betas=(0.5, 0.999), fused=True)
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=100, val_interval=10)
optim_wrapper = dict(
    constructor="MultiOptimWrapperConstructor",
    generator=dict(type="OptimWrapper", optimizer=adam),
    discriminator=dict(type="OptimWrapper", optimizer=adam),
)
param_scheduler = [
    dict(type="LinearDecayLR", constant_for=0.5, by_epoch=True, convert_to_iter_based=True)
]
