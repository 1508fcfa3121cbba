# Any folder of pictures; 80 % of them, drawn at random, are for training. Name yours in a config of
# your own, or with
#   --cfg-options train_dataloader.dataset.data_root=DIR val_dataloader.dataset.data_root=DIR \
#       test_dataloader.dataset.data_root=DIR
_base_ = ["./colorization.py"]

dataset = dict(type="FolderColorization", data_root="data/photographs", train_fraction=0.8, size=64)
train_dataloader = dict(batch_size=8, num_workers=2, dataset=dataset)
val_dataloader = dict(batch_size=8, dataset=dataset)
test_dataloader = val_dataloader
