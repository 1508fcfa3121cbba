# The preset "medium", between "small" and "paper": all pictures in batches of 32, at 32x32 and an eighth
# of the paper's filters, so that two CPU cores train a model in less than an hour. The sets for the
# classifiers take some of the pictures.
_base_ = ["./small.py"]

pictures = dict(_delete_=True)
classified = dict(train=10_000, val=2_000)

every = dict(
    train_dataloader=dict(batch_size=32),
    train_cfg=dict(max_epochs=6, val_interval=1),
)
models = dict(
    cyclegan=dict(generator=dict(base_channels=8), discriminator=dict(base_channels=8)),
    others=dict(generator=dict(base_channels=8), discriminator=dict(channels=(8, 16, 32, 64))),
)
