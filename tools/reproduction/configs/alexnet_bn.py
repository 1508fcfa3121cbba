# AlexNet with batch norm, for the cross-domain study on CIFAR-10 (section 5.3): 256x256 pixels, lr
# 1e-4, times 0.1 at 33 % and 66 % of 20 epochs. The paper names neither batch nor optimizer.
# ../classification.py says which images it is trained and tested on.
_base_ = ["../../../configs/_base_/default_runtime.py"]

custom_imports = dict(imports=["spynco_mm", "reproduction"], allow_failed_imports=False)

model = dict(
    type="ImageClassifier",
    network="alexnet_bn",
    num_classes=10,
    image_size=256,
    data_preprocessor=dict(
        type="DataPreprocessor", mean=127.5, std=127.5, data_keys=[], stack_data_sample=False
    ),
)

dataset = dict(
    type="FolderColorization",
    color_dir=dict(train="train", test="test"),
    class_folders=True,
    test_mode=True,
    pipeline=[dict(type="PackInputs", keys=["img_color"], meta_keys=["img_path"])],
)
train_dataloader = dict(
    batch_size=64,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(dataset, split="train"),
)
val_dataloader = dict(
    batch_size=64,
    num_workers=4,
    persistent_workers=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(type="ConcatDataset", datasets=[dataset]),
)
val_evaluator = [dict(type="DomainAccuracy")]

# Tested once, at the end, on all domains.
epochs = 20
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=epochs, val_interval=epochs)
optim_wrapper = dict(type="OptimWrapper", optimizer=dict(type="Adam", lr=1e-4, fused=True))
param_scheduler = [
    dict(type="MultiStepLR", milestones=[round(epochs * 0.33), round(epochs * 0.66)], gamma=0.1)
]

# It takes minutes and hundreds of megabytes: an interrupted one starts again.
default_hooks = dict(checkpoint=None)
custom_hooks = [dict(type="LossHook"), dict(type="HistoryHook")]
model_wrapper_cfg = dict(_delete_=True, type="MMDistributedDataParallel", broadcast_buffers=True)
test_dataloader = None
test_cfg = None
test_evaluator = None
