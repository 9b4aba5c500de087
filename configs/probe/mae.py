"""The linear probe of MAE, and of "Beyond [cls]" with its AbMILP, as published: 90 epochs, batch 16384, LARS.

A batch norm without parameters and a linear layer, one-shot crops, learning rate 0.1 * batch / 256, on tokens that no
norm has touched. `get_config("cls")`, "mean" or "abmilp" chooses the pooling; without a choice it is the class token,
or the mean of an encoder that has none:

python main.py --config=configs/probe/mae.py:abmilp --encoder=MAE=mae_pretrain_vit_base.pth \
    --config.data.source=data/imagenet
"""

from mim_jax.experiments.probe_settings import default_probe_config


def get_config(pooling=""):
    config = default_probe_config()
    config.readings.layers = (-1,)
    config.readings.poolings = (pooling or "cls",)
    config.where_possible = () if pooling else ("readings.poolings",)
    config.protocols = ("trained",)
    config.data.transform = "linear_probe"
    config.data.crop_scale = (0.08, 1.0)
    config.trained.optimizer = "lars"
    config.trained.learning_rates = (0.1,)
    config.trained.weight_decays = (0.0,)
    config.trained.batch_size = 16384
    config.trained.epochs = 90.0
    config.trained.warmup_epochs = 10.0
    return config
