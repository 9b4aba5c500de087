"""Class token and mean of every block, by nearest neighbours and logistic regression.

python main.py --config=configs/probe/layers.py --encoder=MAE=runs/mae_vit_b16 --config.data.source=data/imagenet
"""

from mim_jax.experiments.probe_settings import default_probe_config


def get_config():
    config = default_probe_config()
    config.readings.layers = ()
    config.readings.poolings = ("cls", "mean")
    config.where_possible = ("readings.poolings",)
    config.protocols = ("k-NN", "logistic")
    return config
