# Published, probably with another recipe: 35.7 mIoU (arXiv 2111.11418, table 4).
# Its authors' code, with the optimiser and schedule used here, reports 36.6 mIoU.
_base_ = './fpn_poolformer_s12_40k.py'
model = dict(
    backbone=dict(
        _delete_=True,
        # Its drop path rate of 0.1, the default, is also that of its authors' segmenters.
        type='mmdet.PyramidVisionTransformer',  # mmsegmentation has none.
        num_layers=[2, 2, 2, 2],
        init_cfg=dict(
            type='Pretrained',
            checkpoint='https://github.com/whai362/PVT/releases/download/v2/pvt_tiny.pth',
        ),
    ),
)
