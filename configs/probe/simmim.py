"""SimMIM's own probe: the mean patch of block 8 of its ViT-B, in MAE's protocol (of the last block of a smaller one).

python main.py --config=configs/probe/simmim.py --encoder=SimMIM=simmim_pretrain__vit_base__img224__800ep.pth \
    --config.data.source=data/imagenet
"""

from configs.probe import mae


def get_config():
    config = mae.get_config("mean")
    config.readings.layers = (8,)
    config.where_possible = ("readings.layers",)
    return config
