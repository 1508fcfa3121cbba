# mmagic's own CycleGAN (Zhu et al. 2017) from grey to colour and back, as the original has it for
# 256x256 pixels; the configs of smaller images take 6 residual blocks, as the original does up to
# 128x128. A generator of 9 blocks has 11.378 M parameters, one of 6 has 7.838 M, a discriminator
# 2.765 M; the model has two of each.
#
# What mmagic 1.2 does and the original does not:
# - Its identity weight is absolute, and 0.5 by default; the original's 0.5 is a factor of the cycle
#   weight, so 5, which is also SpyncoGan's alpha_1. Here it is 5.
# - It updates the discriminators before the generators, the original after; one step each either
#   way. Generators and discriminators of both directions share one optimizer each, as originally.
# As in the original: least squares, a pool of 50 images per direction, instance norm without affine,
# transposed convolutions, reflection padding, normal initialisation with 0.02.
#
# Importing spynco_mm mends its crash at start and averages its gradients over processes (compat.py).
model = dict(
    type="CycleGAN",
    # Not RGB: CycleGAN's val_step takes its pictures for what the preprocessor makes of the real
    # ones in evaluation, which is always BGR.
    data_preprocessor=dict(
        type="BatchDataPreprocessor",
        mean=127.5,
        std=127.5,
        output_channel_order="BGR",
        data_keys=["img_gray", "img_color"],
    ),
    generator=dict(
        type="ResnetGenerator", in_channels=3, out_channels=3, base_channels=64, num_blocks=9
    ),
    discriminator=dict(
        type="PatchDiscriminator", in_channels=3, base_channels=64, norm_cfg=dict(type="IN")
    ),
    default_domain="color",
    reachable_domains=["color", "gray"],
    related_domains=["color", "gray"],
    loss_config=dict(cycle_loss_weight=10.0, id_loss_weight=5.0),
    buffer_size=50,
)
