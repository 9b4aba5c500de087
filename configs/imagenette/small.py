"""What the small runs on Imagenette at 224 pixels have in common: encoders of equal size, equal time.

The folder holds train/CLASS/*.JPEG and val/CLASS/*.JPEG. For one small machine; docs/results.md has what they give.
"""

from mim_jax.experiments.settings import default_config


def imagenette_images(config):
    """2,400 training images of 10 classes as they are cropped, and the whole validation images."""
    config.model.image_size = (224, 224)
    config.data.source = "data/imagenette224"
    config.data.crop_scale = (0.2, 1.0)
    config.data.test_split = "val"
    config.data.evaluation_transform = "evaluation"
    config.data.crop_fraction = 1.0


def small_run(method: str):
    """Data, optimization and evaluation of all of them; their epochs aim at runs of equal length."""
    config = default_config()

    config.method.name = method

    imagenette_images(config)

    config.optimization.batch_size = 32
    config.optimization.warmup_epochs = 0.5
    config.optimization.base_learning_rate = 8e-3

    config.evaluation.probe = True
    config.evaluation.train_images = 2_400

    config.run.log_every = 25
    config.run.checkpoint_every = 250
    config.run.panel_every = 500
    return config


def small_vit(config):
    """A Vision Transformer of 6 blocks of width 128 and 4 heads, patch 16: one million parameters."""
    config.model.width = 128
    config.model.depth = 6
    config.model.num_heads = 4


def small_decoder(config):
    """The decoder of MAE and LUT, and their normalised target."""
    config.method.mask_ratio = 0.75
    config.method.norm_pix_loss = True
    config.method.decoder_width = 64
    config.method.decoder_depth = 2
    config.method.decoder_heads = 4
