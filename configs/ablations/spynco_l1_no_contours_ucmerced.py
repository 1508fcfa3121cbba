# Contours ablation (Table 2), N = 1.
_base_ = ["./spynco_l1_ucmerced.py"]

model = dict(contours_loss=None)
