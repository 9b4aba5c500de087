"""What the published SimMIM pre-training runs have in common (Xie et al. 2022; Swin V2: Xie et al. 2023)."""

from mim_jax.experiments.settings import default_config

IMAGENET_TRAIN_IMAGES = 1_281_167


def published_recipe(model: str, side: int):
    """The recipe of 800 epochs; learning rates are for 512 images, runs had 2048."""
    config = default_config()

    config.method.name = "simmim"
    config.method.mask_ratio = 0.6
    config.method.masking = "coarse"
    config.method.mask_patch = 32

    config.model.name = model
    config.model.image_size = (side, side)
    config.model.drop_path_rate = 0.0

    config.data.source = "data/imagenet"
    config.data.train_examples = IMAGENET_TRAIN_IMAGES
    config.data.test_split = "val"
    config.data.transform = "mae_pretrain"
    config.data.crop_scale = (0.67, 1.0)
    config.data.interpolation = "bilinear"
    config.data.flip_probability = 0.5

    config.optimization.batch_size = 2048
    config.optimization.epochs = 800.0
    config.optimization.warmup_epochs = 10.0
    config.optimization.base_learning_rate = 1e-4
    config.optimization.reference_batch = 512
    config.optimization.schedule = "multistep"
    config.optimization.warmup_learning_rate = 5e-7
    config.optimization.milestones = (700.0,)
    config.optimization.decay_factor = 0.1
    config.optimization.beta1 = 0.9
    config.optimization.beta2 = 0.999
    config.optimization.weight_decay = 0.05
    config.optimization.clip_norm = 5.0

    config.efficiency.dtype = "bfloat16"

    config.run.checkpoint_every = 1000
    config.run.panel_every = 10000
    return config
