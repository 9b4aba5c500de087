"""What the LUT pre-training runs have in common (Kim et al. 2024): MAE's recipe, two views, a teacher."""

from configs.pretrain.mae import published_recipe as mae_recipe


def published_recipe(model: str):
    """The documented recipe of ViT-B; S and L have no other."""
    config = mae_recipe(model)

    config.method.name = "lut"
    config.method.lut.reconstruction_weight = 1.0
    config.method.lut.contextualization_weight = 0.25
    config.method.lut.momentum = 0.996
    config.method.lut.projector_depth = 2
    config.method.lut.predictor_depth = 2
    config.method.lut.head_width = 4096
    config.method.lut.head_norm = "batch"
    config.method.lut.head_activation = "relu"

    config.data.transform = "lut_two_views"

    config.optimization.learning_rate_rule = "square_root"
    return config
