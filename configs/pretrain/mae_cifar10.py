"""A small MAE on CIFAR-10 as an image folder (train/CLASS/*.jpg, test/CLASS/*.jpg): ViT-Tiny, patch 4, 32 pixels.

    python main.py --config=configs/pretrain/mae_cifar10.py --config.data.source=data/cifar10

For one small machine; the numbers it gives are in docs/results.md.
"""

from configs.cifar10.small import cifar10_images
from mim_jax.experiments.settings import default_config


def get_config():
    config = default_config()

    config.method.mask_ratio = 0.75
    config.method.norm_pix_loss = True
    config.method.decoder_width = 96
    config.method.decoder_depth = 1
    config.method.decoder_heads = 3

    config.model.name = "vit_tiny_patch16"
    config.model.patch_size = (4, 4)

    cifar10_images(config)

    config.optimization.batch_size = 128
    config.optimization.epochs = 100.0
    config.optimization.warmup_epochs = 5.0
    config.optimization.base_learning_rate = 2e-3

    config.evaluation.probe = True

    config.run.log_every = 20
    config.run.checkpoint_every = 200
    config.run.panel_every = 1000
    return config
