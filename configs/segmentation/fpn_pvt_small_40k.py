# Published, probably with another recipe: 39.8 mIoU (arXiv 2111.11418, table 4).
# Its authors' code, with the optimiser and schedule used here, reports 41.9 mIoU.
_base_ = './fpn_pvt_tiny_40k.py'
model = dict(
    backbone=dict(
        num_layers=[3, 4, 6, 3],
        init_cfg=dict(
            checkpoint='https://github.com/whai362/PVT/releases/download/v2/pvt_small.pth',
        ),
    ),
)
