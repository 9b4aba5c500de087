"""SimMIM pre-training of ViT-B/16 on ImageNet-1k as published: 800 epochs, stochastic depth of 0.1.

    python main.py --config=configs/pretrain/simmim_vit_b16.py --config.data.source=data/imagenet

The released encoder of this recipe reaches 83.8 % top-1 after fine-tuning.
"""

from configs.pretrain.simmim import published_recipe


def get_config():
    config = published_recipe("simmim_vit_base_patch16", 224)
    config.model.drop_path_rate = 0.1
    return config
