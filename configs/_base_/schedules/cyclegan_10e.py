_base_ = ["./cyclegan_100e.py"]

train_cfg = dict(max_epochs=10, val_interval=5)
