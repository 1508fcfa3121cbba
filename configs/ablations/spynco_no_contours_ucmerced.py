# Contours ablation (Table 2), N = 3.
_base_ = ["../spynco_ucmerced.py"]

model = dict(contours_loss=None)
