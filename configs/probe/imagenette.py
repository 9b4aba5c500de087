"""Poolings by layers of small encoders on Imagenette, as configs/imagenette/ trains them.

python main.py --config=configs/probe/imagenette.py --config.data.source=data/imagenette224 \
    --encoder=MAE=runs/imagenette/mae --encoder=SimMIM=runs/imagenette/simmim --encoder=LUT=runs/imagenette/lut \
    --encoder=supervised=runs/imagenette/supervised
"""

from mim_jax.experiments.probe_settings import default_probe_config


def get_config():
    config = default_probe_config()
    config.data.test_split = "val"
    config.data.crop_fraction = 1.0
    config.data.crop_scale = (0.4, 1.0)
    config.where_possible = ("readings.poolings",)
    config.readings.layers = ()
    config.readings.poolings = ("cls", "mean", "both", "ca2", "attn-mn", "abmilp", "ep(queries=8)")
    config.trained.optimizer = "adamw"
    config.trained.learning_rates = (0.004, 0.016)
    config.trained.batch_size = 64
    config.trained.epochs = 6.0
    config.trained.warmup_epochs = 0.5
    return config
