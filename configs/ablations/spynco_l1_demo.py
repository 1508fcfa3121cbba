# Output ablation (Table 1): the losses look at G_1 only, the network is the same.
_base_ = ["../spynco_plain_demo.py"]

model = dict(
    identity_loss=dict(weights=(5, 0, 0)),
    cycle_bab_loss=dict(weights=(10, 0, 0)),
    cycle_aba_loss=dict(weights=(10, 0, 0)),
    gan_loss=dict(weights=(1, 0, 0)),
)
