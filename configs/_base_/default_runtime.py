custom_imports = dict(imports=["spynco_mm"], allow_failed_imports=False)
default_scope = "mmagic"

randomness = dict(seed=0, diff_rank_seed=True)
env_cfg = dict(
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0),
    # A process that others wait for longer than these seconds is taken for stuck, and the run ends.
    dist_cfg=dict(backend="nccl", timeout=600),
)

default_hooks = dict(
    runtime_info=dict(type="RuntimeInfoHook"),
    # Not mmagic's, which knows of no ETA.
    timer=dict(type="mmengine.IterTimerHook"),
    logger=dict(type="LoggerHook", interval=50),
    param_scheduler=dict(type="ParamSchedulerHook"),
    sampler_seed=dict(type="DistSamplerSeedHook"),
    # The last two epochs, and the best of those evaluated, by a score that grey cannot win: by MSE
    # or CIEDE2000, faint colours beat strong ones that are mostly right. Files appear whole or not
    # at all.
    checkpoint=dict(
        type="CheckpointHook",
        interval=1,
        max_keep_ckpts=2,
        save_best="G1_projected/concordance",
        rule="greater",
        backend_args=dict(backend="atomic"),
    ),
    # On a GPU; enabled=False for ordinary steps.
    cuda_graph=dict(type="CUDAGraphHook"),
)
custom_hooks = [
    dict(type="LossHook"),
    dict(type="ExactResumeHook"),
    dict(type="ColorizationReportHook"),
    dict(type="HistoryHook"),
]
log_processor = dict(type="LogProcessor", window_size=50, by_epoch=True)
log_level = "INFO"
load_from = None
resume = False

model_wrapper_cfg = dict(
    type="MMSeparateDistributedDataParallel",
    broadcast_buffers=False,
    find_unused_parameters=False,
)

# For TensorBoard: vis_backends = [dict(type="TensorboardVisBackend")], or on the command line
# --cfg-options visualizer.vis_backends.0.type=TensorboardVisBackend
vis_backends = [dict(type="VisBackend")]
visualizer = dict(type="Visualizer", vis_backends=vis_backends)

val_cfg = dict(type="ValLoop")
val_evaluator = [dict(type="ColorizationMetric")]
test_cfg = dict(type="TestLoop")
test_evaluator = val_evaluator
