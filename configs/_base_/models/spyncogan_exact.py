_base_ = ["./spyncogan.py"]

# Beyond the paper: H_t(G_i(I)) = I by construction, so that only chroma is left to learn, and a
# discriminator that teaches it. docs/discriminator.md has the experiments.
model = dict(
    generator=dict(consistency=dict(type="ExactConsistency")),
    # Instance norm hides the mean and the strength of a picture's colours, so a discriminator with
    # it judges other things, which the generator then chases, and wins by them.
    discriminator=dict(norm_cfg=None),
    # Squares, whose best answer is the mean of the possible colours. That of L1 is their median,
    # which is greyer.
    cycle_bab_loss=dict(loss=dict(type="MSELoss")),
    # G(J) is to keep the colours that it is shown, which says nothing of those it is to find.
    identity_loss=None,
    # Both would be 0 to float precision.
    cycle_aba_loss=None,
    contours_loss=None,
)
