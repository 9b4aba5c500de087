"""SimMIM pre-training of SwinV2-L (192 pixels, window 12) on ImageNet-1k: 800 epochs, locally normalised target.

    python main.py --config=configs/pretrain/simmim_swinv2_l.py --config.data.source=data/imagenet

Published for this recipe (500,000 steps): a validation loss of 0.4507, and 85.91 % top-1 after fine-tuning.
"""

from configs.pretrain.simmim import published_recipe


def get_config():
    config = published_recipe("swinv2_large", 192)
    config.method.target_window = 47
    config.model.drop_path_rate = 0.1
    return config
