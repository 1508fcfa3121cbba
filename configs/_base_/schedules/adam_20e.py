_base_ = ["./adam_100e.py"]

train_cfg = dict(max_epochs=20, val_interval=5)
param_scheduler = [
    dict(
        type="LinearLR",
        start_factor=1.0,
        end_factor=0.0,
        begin=10,
        end=20,
        by_epoch=True,
        convert_to_iter_based=True,
    )
]
