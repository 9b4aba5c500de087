"""SimMIM on CIFAR-10 with a small Vision Transformer.

python main.py --config=configs/cifar10/simmim_vit.py --workdir=runs/cifar10/simmim_vit
"""

from configs.cifar10.small import small_masks, small_run, small_vit


def get_config():
    config = small_run("simmim")
    config.model.name = "simmim_vit_tiny_patch16"
    small_vit(config)
    small_masks(config)
    config.optimization.epochs = 2.7
    return config
