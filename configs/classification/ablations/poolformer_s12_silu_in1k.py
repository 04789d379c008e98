# Published: 77.2 % top-1 (arXiv 2111.11418, table 5): SiLU for GELU.
_base_ = '../poolformer_s12_in1k.py'
model = dict(backbone=dict(act_cfg=dict(type='SiLU')))
