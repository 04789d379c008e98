# Published: 83.6 % top-1 (arXiv 2210.13452).
_base_ = './convformer_s18_in1k.py'
model = dict(backbone=dict(type='mmpoolformer.CAFormer', drop_path_rate=0.15))
optim_wrapper = dict(optimizer=dict(type='Lamb', lr=8e-3))
