"""SimMIM pre-training of Swin-L (192 pixels, window 12) on ImageNet-1k as published: 800 epochs.

    python main.py --config=configs/pretrain/simmim_swin_l.py --config.data.source=data/imagenet

The released encoder of this recipe reaches 85.4 % top-1 after fine-tuning at 224 pixels.
"""

from configs.pretrain.simmim import published_recipe


def get_config():
    return published_recipe("swin_large_patch4_window12_192", 192)
