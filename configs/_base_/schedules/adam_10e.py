_base_ = ["./adam_100e.py"]

train_cfg = dict(max_epochs=10, val_interval=5)
param_scheduler = [
    dict(
        type="LinearLR",
        start_factor=1.0,
        end_factor=0.0,
        begin=5,
        end=10,
        by_epoch=True,
        convert_to_iter_based=True,
    )
]
