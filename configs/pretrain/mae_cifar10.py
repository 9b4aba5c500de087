"""A small MAE on CIFAR-10 as an image folder (train/CLASS/*.jpg, test/CLASS/*.jpg): ViT-Tiny, patch 4, 32 pixels.

    python main.py --config=configs/pretrain/mae_cifar10.py --config.data.source=/data/cifar10

For one small machine; the numbers it gives are in docs/results.md.
"""

from mim_jax.experiments.settings import default_config


def get_config():
    config = default_config()

    config.method.mask_ratio = 0.75
    config.method.norm_pix_loss = True
    config.method.decoder_width = 96
    config.method.decoder_depth = 1
    config.method.decoder_heads = 3

    config.model.name = "vit_tiny_patch16"
    config.model.image_size = (32, 32)
    config.model.patch_size = (4, 4)

    config.data.source = "/data/cifar10"
    config.data.train_examples = 50_000
    config.data.crop_scale = (0.2, 1.0)
    config.data.evaluation_transform = "evaluation"
    config.data.crop_fraction = 1.0
    config.data.mean = (0.4914, 0.4822, 0.4465)
    config.data.std = (0.2470, 0.2435, 0.2616)

    config.optimization.batch_size = 128
    config.optimization.epochs = 100.0
    config.optimization.warmup_epochs = 5.0
    config.optimization.base_learning_rate = 2e-3

    config.evaluation.probe = True

    config.run.log_every = 20
    config.run.checkpoint_every = 200
    config.run.panel_every = 1000
    return config
