"""SimMIM pre-training of Swin-B (192 pixels, window 6) on ImageNet-1k as published: 800 epochs.

    python main.py --config=configs/pretrain/simmim_swin_b_800ep.py --config.data.source=data/imagenet

The released encoder of this recipe reaches 84.0 % top-1 after fine-tuning at 224 pixels.
"""

from configs.pretrain.simmim import published_recipe


def get_config():
    return published_recipe("swin_base_patch4_window6_192", 192)
