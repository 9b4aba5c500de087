"""How encoders attend, layer by layer and head by head, and what their features are like, as tables and figures.

python main.py --config=configs/analyze.py --encoder=MAE=runs/mae_vit_b16 --encoder=DeiT=deit_base_patch16_224.pth \\
    --config.data.source=data/imagenet
"""

from mim_jax.experiments.analyze_settings import default_analyze_config


def get_config():
    return default_analyze_config()
