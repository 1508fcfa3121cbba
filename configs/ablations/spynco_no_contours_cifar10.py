# Contours ablation (Table 2), N = 3.
_base_ = ["../spynco_cifar10.py"]

model = dict(contours_loss=None)
