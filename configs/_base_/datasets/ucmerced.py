# 2 100 aerial images of 256x256 pixels, 80 % drawn for training (section 5.1).
_base_ = ["./colorization.py"]

# A few of the images are some pixels smaller or larger.
dataset = dict(type="UCMercedColorization", data_root="data/UCMerced_LandUse", size=256)
train_dataloader = dict(batch_size=1, dataset=dataset)
val_dataloader = dict(batch_size=4, dataset=dataset)
test_dataloader = val_dataloader
