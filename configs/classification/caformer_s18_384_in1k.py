# Published: 85.0 % top-1, with ImageNet-21K 85.4 % (arXiv 2210.13452). For evaluation: the
# authors fine-tuned at 384 px for 30 epochs with LAMB, learning rate 1e-4, batch 1024.
_base_ = './convformer_s18_384_in1k.py'
model = dict(backbone=dict(type='mmpoolformer.CAFormer', drop_path_rate=0.15))
optim_wrapper = dict(optimizer=dict(type='Lamb', lr=8e-3))
