#!/usr/bin/env bash
# transformers 5.24.0, torch 2.13.0.
#
# Attention within shifted windows adds -100 to the logits of pairs that a shift brought together from far apart. Swin does so
# once; Swin V2 adds the same mask twice, so these logits are lowered by 200. Where a logit scale has reached its limit of 100, the
# cosines span 200, so that -100 leaves such pairs some attention and -200 hardly any: outputs then differ from those of the
# original code, for which the weights were trained.
#
# Seen (lowest logit that a softmax is given, less the lowest in the same model without shifted windows, rounded to tens):
#   Swin: -100
#   Swin V2: -200
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check transformers==5.24.0 torch==2.13.0
cd "$folder"
HF_HUB_OFFLINE=1 "$folder/venv/bin/python" -W ignore - <<'PYTHON'
import torch
from transformers import SwinConfig, SwinModel, Swinv2Config, Swinv2Model

original = torch.nn.functional.softmax


def lowest(model_class, config_class, image_size):
    """The lowest number that any softmax is given; with one window for the whole map nothing is shifted."""
    sizes = dict(patch_size=1, embed_dim=8, depths=[2], num_heads=[2], window_size=4, qkv_bias=True)
    torch.manual_seed(0)
    model = model_class(config_class(image_size=image_size, **sizes), add_pooling_layer=False).eval()
    model.set_attn_implementation("eager")
    seen = []

    def recorded(x, *arguments, **options):
        seen.append(float(x.min()))
        return original(x, *arguments, **options)

    torch.nn.functional.softmax = recorded
    try:
        with torch.no_grad():
            model(torch.zeros(1, 3, image_size, image_size))
    finally:
        torch.nn.functional.softmax = original
    assert seen, "no softmax was seen"
    return min(seen)


found = {}
for name, kinds in {"Swin": (SwinModel, SwinConfig), "Swin V2": (Swinv2Model, Swinv2Config)}.items():
    found[name] = round((lowest(*kinds, 8) - lowest(*kinds, 4)) / 10) * 10
    print(f"{name}: {found[name]}")
assert found == {"Swin": -100, "Swin V2": -200}, "this behaviour has changed"
PYTHON
