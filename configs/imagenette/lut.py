"""LUT on Imagenette with a small Vision Transformer.

python main.py --config=configs/imagenette/lut.py --workdir=runs/imagenette/lut
"""

from configs.imagenette.small import small_decoder, small_run, small_vit


def get_config():
    config = small_run("lut")
    config.model.name = "vit_tiny_patch16"
    small_vit(config)
    small_decoder(config)
    config.method.lut.head_width = 256
    config.data.transform = "lut_two_views"
    config.optimization.epochs = 10.0
    return config
