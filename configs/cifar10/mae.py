"""MAE on CIFAR-10 with a small Vision Transformer.

python main.py --config=configs/cifar10/mae.py --workdir=runs/cifar10/mae
"""

from configs.cifar10.small import small_decoder, small_run, small_vit


def get_config():
    config = small_run("mae")
    config.model.name = "vit_tiny_patch16"
    small_vit(config)
    small_decoder(config)
    config.optimization.epochs = 5.4
    return config
