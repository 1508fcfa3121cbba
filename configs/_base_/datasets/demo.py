# Photographs inside scikit-image and scikit-learn; evaluated on parts never trained on.
_base_ = ["./colorization.py"]

dataset = dict(type="EmbeddedPhotographs", crop_size=32, short_side=128)
train_dataloader = dict(batch_size=4, dataset=dict(crops_per_photo=80, **dataset))
val_dataloader = dict(batch_size=50, dataset=dataset)
test_dataloader = val_dataloader
