"""What the published MAE pre-training runs have in common (He et al. 2022, table 8)."""

from mim_jax.experiments.settings import default_config

IMAGENET_TRAIN_IMAGES = 1_281_167


def published_recipe(model: str):
    """The recipe of the released encoders; B, L and H differ in the model only."""
    config = default_config()

    config.method.mask_ratio = 0.75
    config.method.norm_pix_loss = True
    config.method.decoder_width = 512
    config.method.decoder_depth = 8
    config.method.decoder_heads = 16

    config.model.name = model
    config.model.image_size = (224, 224)

    config.data.source = "data/imagenet"
    config.data.train_examples = IMAGENET_TRAIN_IMAGES
    config.data.test_split = "val"
    config.data.transform = "mae_pretrain"
    config.data.crop_scale = (0.2, 1.0)
    config.data.flip_probability = 0.5

    config.optimization.batch_size = 4096
    config.optimization.epochs = 1600.0
    config.optimization.warmup_epochs = 40.0
    config.optimization.base_learning_rate = 1.5e-4
    config.optimization.final_learning_rate = 0.0
    config.optimization.beta1 = 0.9
    config.optimization.beta2 = 0.95
    config.optimization.weight_decay = 0.05
    config.optimization.clip_norm = 0.0

    config.efficiency.dtype = "bfloat16"

    config.run.checkpoint_every = 1000
    config.run.panel_every = 10000
    return config
