# Col-Cycle, the paper's baseline (section 6.2.2): fully cyclic, in mmagic's CycleGAN. Its two
# generators have SpyncoGan's layers and filters, but decreasing filters in the decoder (4.361 M
# parameters each); its two discriminators are SpyncoGan's (2.085 M each).
_base_ = ["./cyclegan.py"]

model = dict(
    generator=dict(_delete_=True, type="ColCycleGenerator", base_channels=64, num_blocks=6),
    discriminator=dict(_delete_=True, type="SpyncoDiscriminator", channels=(64, 128, 256, 512)),
)
