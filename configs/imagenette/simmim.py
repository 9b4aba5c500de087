"""SimMIM on Imagenette with a small Vision Transformer.

python main.py --config=configs/imagenette/simmim.py --workdir=runs/imagenette/simmim
"""

from configs.imagenette.small import small_run, small_vit


def get_config():
    config = small_run("simmim")
    config.model.name = "simmim_vit_tiny_patch16"
    small_vit(config)
    config.method.mask_ratio = 0.6
    config.method.masking = "coarse"
    config.method.mask_patch = 32
    config.data.crop_scale = (0.67, 1.0)
    config.data.interpolation = "bilinear"
    config.optimization.beta2 = 0.999
    config.optimization.clip_norm = 5.0
    config.optimization.epochs = 9.0
    return config
