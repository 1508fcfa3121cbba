# What makes networks small enough for the embedded photographs in minutes on two CPU cores: SpyncoGan
# and Col-Cycle start with 24 filters instead of 64.
demo = dict(
    generator=dict(base_channels=24),
    discriminator=dict(channels=(24, 48, 96, 192)),
)
