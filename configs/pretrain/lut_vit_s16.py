"""LUT pre-training of ViT-S/16 on ImageNet-1k as published (Kim et al. 2024): 1600 epochs, normalised pixels.

    python main.py --config=configs/pretrain/lut_vit_s16.py --config.data.source=data/imagenet

Published for this model: 82.0 % top-1 after fine-tuning.
"""

from configs.pretrain.lut import published_recipe


def get_config():
    return published_recipe("vit_small_patch16")
