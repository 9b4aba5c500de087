"""Poolings by layers of small encoders on CIFAR-10, as configs/cifar10/ trains them.

python main.py --config=configs/probe/cifar10.py --config.data.source=data/cifar10 \
    --encoder=MAE=runs/cifar10/mae --encoder=SimMIM=runs/cifar10/simmim_vit --encoder=LUT=runs/cifar10/lut \
    --encoder=supervised=runs/cifar10/supervised
"""

from mim_jax.experiments.probe_settings import default_probe_config


def get_config():
    config = default_probe_config()
    config.data.crop_fraction = 1.0
    config.data.crop_scale = (0.4, 1.0)
    config.where_possible = ("readings.poolings",)
    config.readings.layers = ()
    config.readings.poolings = ("cls", "mean", "both", "cp2", "ca2", "attn-mn", "attn-lcte", "abmilp", "ep(queries=8)")
    config.trained.learning_rates = (0.3, 1.0, 3.0)
    config.trained.batch_size = 256
    config.trained.epochs = 8.0
    config.trained.warmup_epochs = 0.5
    config.frozen.train_images = 10_000
    config.frozen.shots = (1.0, 10.0)
    return config
