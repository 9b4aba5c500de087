"""DINOv2's grid: thirteen learning rates for the class token, with and without the mean patch, in one pass.

python main.py --config=configs/probe/dinov2_grid.py --encoder=DINOv2=dinov2_vitb14_pretrain.pth \
    --config.data.source=data/imagenet
"""

from mim_jax.experiments.probe_settings import default_probe_config


def get_config():
    config = default_probe_config()
    config.readings.layers = (-1,)
    config.readings.poolings = ("cls", "both")
    config.readings.final_norm = (True,)
    config.where_possible = ("readings.poolings", "readings.final_norm")
    config.protocols = ("trained",)
    config.trained.optimizer = "sgd"
    config.trained.learning_rates = (
        1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 1e-1,
    )  # fmt: skip
    config.trained.batch_size = 1024
    config.trained.epochs = 10.0
    config.trained.warmup_epochs = 0.0
    config.trained.batch_norm = False
    config.trained.head_init = "normal"
    config.data.crop_scale = (0.08, 1.0)
    return config
