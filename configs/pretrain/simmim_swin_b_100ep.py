"""SimMIM pre-training of Swin-B (192 pixels, window 6) on ImageNet-1k as published: 100 epochs, cosine.

    python main.py --config=configs/pretrain/simmim_swin_b_100ep.py --config.data.source=data/imagenet

The released encoder of this recipe reaches 82.8 % top-1 after fine-tuning at 192 pixels and 83.5 % at 224.
"""

from configs.pretrain.simmim import published_recipe


def get_config():
    config = published_recipe("swin_base_patch4_window6_192", 192)
    config.optimization.epochs = 100.0
    config.optimization.base_learning_rate = 2e-4
    config.optimization.schedule = "cosine"
    config.optimization.warmup_learning_rate = 1e-6
    config.optimization.final_learning_rate = 1e-5
    config.optimization.milestones = ()
    return config
