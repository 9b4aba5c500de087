"""MAE on Imagenette with a small Vision Transformer.

python main.py --config=configs/imagenette/mae.py --workdir=runs/imagenette/mae
"""

from configs.imagenette.small import small_decoder, small_run, small_vit


def get_config():
    config = small_run("mae")
    config.model.name = "vit_tiny_patch16"
    small_vit(config)
    small_decoder(config)
    config.optimization.epochs = 26.0
    return config
