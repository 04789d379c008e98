# Published, probably with another recipe: 36.3 box AP (arXiv 2111.11418, table 3).
# It is also mmdetection's number for SGD and Caffe weights; what this recipe gives is not known.
_base_ = './retinanet_poolformer_s12_1x.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='ResNet',
        depth=50,
        # Not the stride-4 map, which RetinaNet does not use.
        out_indices=(1, 2, 3),
        # As in mmdetection: two images give poor batch statistics, so those of ImageNet stay
        # (norm_eval, the default). The paper counts no parameters of the stem and first stage.
        frozen_stages=1,
        init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet50'),
    ),
    neck=dict(in_channels=[512, 1024, 2048]),
)
