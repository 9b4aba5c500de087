"""MAE pre-training of ViT-B/16 on ImageNet-1k as published (He et al. 2022): 1600 epochs, normalised pixels.

    python main.py --config=configs/pretrain/mae_vit_b16.py --config.data.source=data/imagenet

The released encoder of this recipe reaches 83.6 % top-1 after fine-tuning and 67.8 % by a linear probe.
"""

from configs.pretrain.mae import published_recipe


def get_config():
    return published_recipe("vit_base_patch16")
