_base_ = './default_runtime.py'
default_scope = 'mmpretrain'
default_hooks = dict(checkpoint=dict(max_keep_ckpts=3))
visualizer = dict(
    type='UniversalVisualizer', vis_backends=[dict(type='LocalVisBackend')], name='visualizer'
)
