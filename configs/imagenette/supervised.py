"""Supervised training on Imagenette with a small Vision Transformer, to compare the others with.

python main.py --config=configs/imagenette/supervised.py --workdir=runs/imagenette/supervised
"""

from configs.imagenette.small import small_run, small_vit


def get_config():
    config = small_run("supervised")
    config.model.name = "deit_tiny_patch16"
    small_vit(config)
    config.method.supervised.num_classes = 10
    # Few steps: pictures that are hard to recognise would keep it from learning anything.
    config.method.supervised.mixup = 0.0
    config.method.supervised.cutmix = 0.0
    config.method.supervised.erasing = 0.0
    config.data.transform = "supervised"
    config.data.rand_augment = 0.0
    config.optimization.beta2 = 0.999
    config.optimization.epochs = 9.5
    return config
