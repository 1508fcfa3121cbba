# Contours ablation (Table 2), N = 3.
_base_ = ["../spynco_cezanne.py"]

model = dict(contours_loss=None)
