# SpyncoGan with the weights of section 5.2: index 1, the final output, comes first.
alpha = (5, 3, 2)  # identity, Eq. 4
beta = (10, 6, 4)  # cycle, Eqs. 6 and 7
gamma = (1, 1, 1)  # GAN, Eq. 8
zeta = (1, 0, 0)  # contours, Eq. 9

model = dict(
    type="SpyncoGAN",
    data_preprocessor=dict(
        type="BatchDataPreprocessor",
        mean=127.5,
        std=127.5,
        output_channel_order="RGB",
        data_keys=["img_gray", "img_color"],
    ),
    generator=dict(type="SpyncoGenerator", base_channels=64, num_blocks=6, num_outputs=3),
    discriminator=dict(type="SpyncoDiscriminator", channels=(64, 128, 256, 512)),
    handcrafted_translation=dict(type="HandcraftedTranslation", weights="bt601"),
    identity_loss=dict(type="OSPLoss", loss=dict(type="L1Loss"), weights=alpha),
    cycle_bab_loss=dict(type="OSPLoss", loss=dict(type="L1Loss"), weights=beta),
    cycle_aba_loss=dict(type="OSPLoss", loss=dict(type="L1Loss"), weights=beta),
    gan_loss=dict(type="OSPLoss", loss=dict(type="GANLoss", gan_type="lsgan"), weights=gamma),
    contours_loss=dict(type="OSPLoss", loss=dict(type="ContoursLoss"), weights=zeta),
    buffer_size=50,
)
