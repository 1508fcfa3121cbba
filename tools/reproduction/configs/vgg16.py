# VGG-16, for the cross-domain study on UCMerced Land Use: 40 epochs, else as AlexNet.
_base_ = ["./alexnet_bn.py"]

model = dict(network="vgg16", num_classes=21)

epochs = 40
train_cfg = dict(max_epochs=epochs, val_interval=epochs)
param_scheduler = [
    dict(type="MultiStepLR", milestones=[round(epochs * 0.33), round(epochs * 0.66)], gamma=0.1)
]
