# 50 000 / 10 000 images of 32x32 pixels, the provided splits.
_base_ = ["./colorization.py"]

dataset = dict(type="CIFAR10Colorization", data_root="data")
train_dataloader = dict(dataset=dataset)
val_dataloader = dict(batch_size=100, dataset=dataset)
test_dataloader = val_dataloader
