"""Supervised training on CIFAR-10 with a small Vision Transformer, to compare the others with.

python main.py --config=configs/cifar10/supervised.py --workdir=runs/cifar10/supervised
"""

from configs.cifar10.small import small_run, small_vit


def get_config():
    config = small_run("supervised")
    config.model.name = "deit_tiny_patch16"
    small_vit(config)
    config.method.supervised.num_classes = 10
    config.data.transform = "supervised"
    config.data.crop_scale = (0.2, 1.0)
    config.data.rand_augment = 9.0
    config.optimization.epochs = 2.5
    config.optimization.beta2 = 0.999
    return config
