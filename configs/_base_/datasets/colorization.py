# What all data sets share: unpaired training, paired evaluation, grey by the model's own H_t.
pack_inputs = dict(
    type="PackInputs",
    keys=["img_gray", "img_color"],
    data_keys=["img_gray", "img_color"],
    meta_keys=[
        "img_path",
        "sample_idx",
        "photo",
        "img_gray_channel_order",
        "img_color_channel_order",
    ],
)
train_pipeline = [
    dict(type="Flip", keys=["img_gray"], direction="horizontal"),
    dict(type="Flip", keys=["img_color"], direction="horizontal"),
    dict(type="HandcraftedTranslation", keys=["img_gray"], weights="bt601"),
    pack_inputs,
]
val_pipeline = [
    dict(type="HandcraftedTranslation", keys=["img_gray"], weights="bt601"),
    pack_inputs,
]
# For mmagic's inferencer: any picture, grey or coloured. It looks for img_gray in a dict, and
# PackInputs makes one of two pictures at least.
test_pipeline = [
    dict(type="LoadImage", key="img_A", out_key="img_gray"),
    dict(type="LoadImage", key="img_B", out_key="img_color"),
    dict(type="HandcraftedTranslation", keys=["img_gray"], weights="bt601"),
    pack_inputs,
]

# The pictures are in memory and a batch of them is made as a whole, in half a millisecond for 32 of
# CIFAR-10, so no processes are started for it. A pipeline with other transforms than flips makes
# pictures one by one, 0.2 ms for each of CIFAR-10 and 1 ms for one of 256x256; and pictures too many
# for the memory (see cache_mb) are read from disk. On a GPU that is worth num_workers=4 with
# persistent_workers=True. On a GPU a batch is made there, where pin_memory has nothing to pin: with
# pin_memory=True set the dataset's device="cpu".
train_dataloader = dict(
    batch_size=32,
    num_workers=0,
    persistent_workers=False,
    drop_last=True,
    # The same batches as by default, made as a whole where they can be.
    collate_fn=dict(type="colorization_collate"),
    sampler=dict(type="EpochSampler", shuffle=True),
    dataset=dict(pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=32,
    num_workers=0,
    persistent_workers=False,
    collate_fn=dict(type="colorization_collate"),
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(pipeline=val_pipeline, test_mode=True),
)
# mmengine's inferencers cannot take a collate_fn that is a config.
test_dataloader = {key: value for key, value in val_dataloader.items() if key != "collate_fn"}
