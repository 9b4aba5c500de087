"""A small MAE on scikit-learn's handwritten digits, in minutes on a CPU and without a download.

    python main.py --config=configs/quickstart.py

Pre-trains without labels on 1437 images of 8x8 pixels, then compares frozen features of the encoder with those of raw
pixels and of the same encoder at random initialisation.
"""

from mim_jax.experiments.settings import default_config


def get_config():
    config = default_config()

    config.method.mask_ratio = 0.75
    config.method.decoder_width = 32
    config.method.decoder_depth = 1
    config.method.decoder_heads = 2

    config.model.name = "vit_tiny_patch16"
    config.model.image_size = (8, 8)
    config.model.patch_size = (2, 2)
    config.model.channels = 1
    config.model.width = 64
    config.model.depth = 4
    config.model.num_heads = 4

    config.data.source = "digits"
    config.data.transform = "none"
    config.data.evaluation_transform = "none"
    config.data.mean = (0.3053,)
    config.data.std = (0.3763,)

    config.optimization.batch_size = 64
    config.optimization.epochs = 400.0
    config.optimization.warmup_epochs = 20.0
    config.optimization.base_learning_rate = 4e-3

    config.evaluation.probe = True
    config.evaluation.knn_every = 1100

    config.run.log_every = 50
    config.run.checkpoint_every = 1100
    config.run.panel_every = 2200
    config.run.panel_images = 4
    return config
