# Table 2: no contours loss, N = 1.
_base_ = ["../spynco_cezanne.py", "../_base_/ablations.py"]

model = _base_.l1_no_contours
