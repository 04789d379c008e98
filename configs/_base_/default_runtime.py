# What all tasks share: hooks, environment, logging.
# The tools of mmdet, too, find mmcv's operators through this package: see mmcv_operators.py.
custom_imports = dict(imports=['mmpoolformer'], allow_failed_imports=False)
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50),
    param_scheduler=dict(type='ParamSchedulerHook'),
    # Whole checkpoints or none: see engine/checkpointing.py.
    checkpoint=dict(type='mmpoolformer.CheckpointHook', interval=1, save_best='auto'),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    # Here, not in custom_hooks, which a config of yours would replace as a whole.
    operators=dict(type='mmpoolformer.OperatorsHook'),
    seed=dict(type='mmpoolformer.SeedHook'),
    interrupt=dict(type='mmpoolformer.InterruptHook'),
)
env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)
vis_backends = [dict(type='LocalVisBackend')]
log_level = 'INFO'
load_from = None
resume = False
