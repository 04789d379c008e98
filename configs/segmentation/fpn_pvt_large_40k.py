# Published, probably with another recipe: 42.1 mIoU (arXiv 2111.11418, table 4).
# See fpn_pvt_tiny_40k.py.
_base_ = './fpn_pvt_tiny_40k.py'
model = dict(
    backbone=dict(
        num_layers=[3, 8, 27, 3],
        init_cfg=dict(
            checkpoint='https://github.com/whai362/PVT/releases/download/v2/pvt_large.pth',
        ),
    ),
)
