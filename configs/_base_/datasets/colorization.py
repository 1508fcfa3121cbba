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

train_dataloader = dict(
    batch_size=32,
    num_workers=4,
    persistent_workers=True,
    drop_last=True,
    # The same batches as by default, cheaper to receive from workers.
    collate_fn=dict(type="colorization_collate"),
    sampler=dict(type="EpochSampler", shuffle=True),
    dataset=dict(pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=32,
    num_workers=2,
    persistent_workers=True,
    collate_fn=dict(type="colorization_collate"),
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(pipeline=val_pipeline, test_mode=True),
)
# mmengine's inferencers cannot take a collate_fn that is a config.
test_dataloader = {key: value for key, value in val_dataloader.items() if key != "collate_fn"}
