# Any folder of pictures; 80 % of them, drawn at random, are for training. Name yours in a config of
# your own, or with
#   --cfg-options train_dataloader.dataset.data_root=DIR val_dataloader.dataset.data_root=DIR \
#       test_dataloader.dataset.data_root=DIR
_base_ = ["./colorization.py"]

# The whole picture at 64x64; in training cut out of 72x72, in CycleGAN's proportions.
dataset = dict(type="FolderColorization", data_root="data/photographs", train_fraction=0.8, size=64)
train_pipeline = [
    dict(type="Crop", keys=["img_gray"], crop_size=(64, 64), random_crop=True),
    dict(type="Crop", keys=["img_color"], crop_size=(64, 64), random_crop=True),
    *_base_.train_pipeline,
]
train_dataloader = dict(batch_size=8, dataset=dict(dataset, size=72, pipeline=train_pipeline))
val_dataloader = dict(batch_size=8, dataset=dataset)
test_dataloader = val_dataloader
