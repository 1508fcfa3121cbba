# Table 2: no contours loss, N = 3.
_base_ = ["../spynco_cezanne.py", "../_base_/ablations.py"]

model = _base_.no_contours
