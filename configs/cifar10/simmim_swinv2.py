"""SimMIM on CIFAR-10 with a small Swin Transformer V2 and a locally normalised target.

python main.py --config=configs/cifar10/simmim_swinv2.py --workdir=runs/cifar10/simmim_swinv2
"""

from configs.cifar10.small import small_masks, small_run, small_swin


def get_config():
    config = small_run("simmim")
    config.model.name = "swinv2_tiny"
    small_swin(config)
    small_masks(config)
    config.model.options = {"pretrained_windows": (4, 4)}
    config.method.target_window = 7
    config.optimization.epochs = 1.4
    return config
