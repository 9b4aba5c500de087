"""Every way to read the last layer, and the last but a few: class token, means, attention-derived, trained heads.

python main.py --config=configs/probe/poolings.py --encoder=MAE=runs/mae_vit_b16 --config.data.source=data/imagenet
"""

from mim_jax.experiments.probe_settings import default_probe_config

ATTENTION_DERIVED = ("ca2", "attn-mn", "attn-lcte")
TRAINED = ("abmilp", "ep(queries=32)", "aim", "cae", "simpool")


def get_config():
    config = default_probe_config()
    config.readings.layers = (-1,)
    config.readings.poolings = ("cls", "mean", "both", "max", "cp2", *ATTENTION_DERIVED, *TRAINED)
    config.where_possible = ("readings.poolings",)
    config.trained.learning_rates = (0.03, 0.1, 0.3)
    return config
