"""MAE pre-training of ViT-L/16 on ImageNet-1k as published (He et al. 2022): 1600 epochs, normalised pixels.

    python main.py --config=configs/pretrain/mae_vit_l16.py --config.data.source=data/imagenet

The released encoder of this recipe reaches 85.9 % top-1 after fine-tuning and 76.0 % by a linear probe.
"""

from configs.pretrain.mae import published_recipe


def get_config():
    config = published_recipe("vit_large_patch16")
    config.efficiency.scan_blocks = True  # compiles in seconds instead of minutes
    return config
