# The paper's ablations: what each changes in the model of a config.
# Of the outputs (Table 1): the losses look at G_1 only, the network is the same.
l1 = dict(
    identity_loss=dict(weights=(5, 0, 0)),
    cycle_bab_loss=dict(weights=(10, 0, 0)),
    cycle_aba_loss=dict(weights=(10, 0, 0)),
    gan_loss=dict(weights=(1, 0, 0)),
)
# The same with exact consistency, which has two of these losses.
exact_l1 = dict(cycle_bab_loss=l1["cycle_bab_loss"], gan_loss=l1["gan_loss"])
# Of the contours loss (Table 2), with N = 3 and N = 1.
no_contours = dict(contours_loss=None)
l1_no_contours = dict(l1, contours_loss=None)
