"""SimMIM on CIFAR-10 with a small Swin Transformer.

python main.py --config=configs/cifar10/simmim_swin.py --workdir=runs/cifar10/simmim_swin
"""

from configs.cifar10.small import small_masks, small_run, small_swin


def get_config():
    config = small_run("simmim")
    config.model.name = "swin_tiny_patch4_window7"
    small_swin(config)
    small_masks(config)
    config.optimization.epochs = 1.7
    return config
