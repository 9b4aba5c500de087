"""What the small runs on CIFAR-10 have in common: a method each, encoders of equal size, roughly equal time.

The folder holds train/CLASS/*.jpg and test/CLASS/*.jpg. For one small machine; docs/results.md has what they give.
"""

from mim_jax.experiments.settings import default_config


def cifar10_images(config):
    """The 50,000 training images as they are cropped, and the whole test images."""
    config.model.image_size = (32, 32)
    config.data.source = "data/cifar10"
    config.data.crop_scale = (0.2, 1.0)
    config.data.evaluation_transform = "evaluation"
    config.data.crop_fraction = 1.0
    config.data.mean = (0.4914, 0.4822, 0.4465)
    config.data.std = (0.2470, 0.2435, 0.2616)


def small_run(method: str):
    """Data, optimization and evaluation of all of them; their epochs aim at runs of equal length."""
    config = default_config()

    config.method.name = method

    cifar10_images(config)

    config.optimization.batch_size = 64
    config.optimization.warmup_epochs = 0.25
    config.optimization.base_learning_rate = 4e-3

    config.evaluation.probe = True
    config.evaluation.train_images = 10_000

    config.run.log_every = 50
    config.run.checkpoint_every = 500
    config.run.panel_every = 1000
    return config


def small_vit(config):
    """A Vision Transformer of 4 blocks of width 96, patch 4: half a million parameters."""
    config.model.patch_size = (4, 4)
    config.model.width = 96
    config.model.depth = 4
    config.model.num_heads = 3


def small_swin(config):
    """A Swin Transformer of 2 blocks of width 48 and 4 of width 96, patch 2, window 4: half a million parameters."""
    config.model.patch_size = (2, 2)
    config.model.width = 48
    config.model.depths = (2, 4)
    config.model.stage_heads = (2, 4)
    config.model.window = 4


def small_decoder(config):
    """The decoder of MAE and LUT, and their normalised target."""
    config.method.mask_ratio = 0.75
    config.method.norm_pix_loss = True
    config.method.decoder_width = 48
    config.method.decoder_depth = 1
    config.method.decoder_heads = 2


def small_masks(config):
    """SimMIM's masks: cells of 4 pixels, which lie about as far from visible pixels as 32 pixels do at 192."""
    config.method.mask_ratio = 0.6
    config.method.masking = "coarse"
    config.method.mask_patch = 4
    config.data.crop_scale = (0.67, 1.0)
    config.data.interpolation = "bilinear"
    config.optimization.beta2 = 0.999
    config.optimization.clip_norm = 5.0
