# CycleGAN's cezanne2photo: A holds the paintings. Both domains come from them here, A turned grey.
_base_ = ["./colorization.py"]

dataset = dict(
    type="FolderColorization",
    data_root="data/cezanne2photo",
    color_dir=dict(train="trainA", test="testA"),
    size=256,
)
train_dataloader = dict(batch_size=1, dataset=dataset)
val_dataloader = dict(batch_size=4, dataset=dataset)
test_dataloader = val_dataloader
