# Table 1: losses on the final output only.
_base_ = ["../spynco_ucmerced.py", "../_base_/ablations.py"]

model = _base_.l1
