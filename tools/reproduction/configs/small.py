# The preset "small", for two CPU cores: 32x32 pixels, a quarter of the paper's filters and 20 epochs of
# 400 pictures. It is merged into the configs of configs/: `every` into all, and one of `models` and of
# `datasets` each. study.py chooses the pictures, spread evenly over the data set.
pictures = dict(train=400, val=200, test=200)
# Of these, the sets for the classifiers.
classified = dict(train=400, val=200)

loader = dict(num_workers=0, persistent_workers=False)
every = dict(
    train_dataloader=dict(batch_size=8, **loader),
    val_dataloader=loader,
    test_dataloader=loader,
    train_cfg=dict(max_epochs=20, val_interval=2),
)

models = dict(
    cyclegan=dict(
        generator=dict(base_channels=16, num_blocks=6), discriminator=dict(base_channels=16)
    ),
    others=dict(generator=dict(base_channels=16), discriminator=dict(channels=(16, 32, 64, 128))),
)

resized = dict(
    train_dataloader=dict(dataset=dict(size=32)),
    val_dataloader=dict(dataset=dict(size=32)),
    test_dataloader=dict(dataset=dict(size=32)),
)
crop = dict(crop_size=(32, 32))
datasets = dict(
    cifar10=dict(),
    ucmerced=resized,
    cezanne=resized,
    landscape=resized,
    folder=dict(
        resized,
        train_dataloader=dict(dataset=dict(size=36, pipeline={"0": crop, "1": crop})),
    ),
    demo=dict(train_dataloader=dict(dataset=dict(crops_per_photo=40))),
)

# The least that AlexNet takes, and a quarter of its epochs.
classifier = dict(
    model=dict(image_size=64),
    train_dataloader=dict(batch_size=32, **loader),
    val_dataloader=loader,
    train_cfg=dict(max_epochs=5, val_interval=5),
    param_scheduler={"0": dict(milestones=[2, 3])},
)
