"""Vision Transformers in the names of their authors, which are timm's too."""

from mim_jax.models.vit_presets import FLAVOURS
from mim_jax.weights.layouts.layout import BUFFERS, Layout, Shapes

EMBEDDING = """
cls_token               encoder/cls_token           token
dist_token              encoder/dist_token          token
pos_embed               encoder/pos_embed/table     tokens
patch_embed.proj        encoder/patch_embed         convolution
norm                    encoder/norm                norm
"""

BLOCKS = """
blocks.{i}.norm1        encoder/blocks/{i}/norm1        norm
blocks.{i}.attn.qkv     encoder/blocks/{i}/attn/qkv     qkv
blocks.{i}.attn.q_norm  encoder/blocks/{i}/attn/q_norm  norm
blocks.{i}.attn.k_norm  encoder/blocks/{i}/attn/k_norm  norm
blocks.{i}.attn.proj    encoder/blocks/{i}/attn/proj    merge_heads
blocks.{i}.norm2        encoder/blocks/{i}/norm2        norm
"""

LAYER_SCALE = """
blocks.{i}.ls1.gamma    encoder/blocks/{i}/gamma_1      vector
blocks.{i}.ls2.gamma    encoder/blocks/{i}/gamma_2      vector
"""

AUTHORS_LAYER_SCALE = """
blocks.{i}.gamma_1      encoder/blocks/{i}/gamma_1      vector
blocks.{i}.gamma_2      encoder/blocks/{i}/gamma_2      vector
"""

MLP = """
blocks.{i}.mlp.fc1      encoder/blocks/{i}/mlp/fc1      dense
blocks.{i}.mlp.fc2      encoder/blocks/{i}/mlp/fc2      dense
"""

GATED_MLP = """
blocks.{i}.mlp.w12      encoder/blocks/{i}/mlp/w12      gate
blocks.{i}.mlp.w3       encoder/blocks/{i}/mlp/w3       dense
"""

TIMM_GATED_MLP = """
blocks.{i}.mlp.fc1      encoder/blocks/{i}/mlp/w12      gate
blocks.{i}.mlp.fc2      encoder/blocks/{i}/mlp/w3       dense
"""

BEIT_BLOCKS = """
blocks.{i}.attn.q_bias  encoder/blocks/{i}/attn/q_bias  heads
blocks.{i}.attn.v_bias  encoder/blocks/{i}/attn/v_bias  heads

blocks.{i}.attn.relative_position_bias_table  encoder/blocks/{i}/attn/relative_position_bias/table  table
rel_pos_bias.relative_position_bias_table     encoder/relative_position_bias/table                  table
"""

TIMM_REGISTERS = """
reg_token               encoder/register_tokens         tokens
"""

DINOV2_TOKENS = """
register_tokens         encoder/register_tokens         tokens
mask_token              encoder/mask_token              row
"""

IBOT_TOKEN = """
masked_embed            encoder/mask_token              row
"""

MASK_TOKEN = """
mask_token              encoder/mask_token              token
"""

HEADS = """
fc_norm                 fc_norm                         norm
head                    head                            dense
head_dist               head_dist                       dense
"""

PROBE = """
head.0                  head_norm                       batch_norm
head.1                  head                            dense
"""

MAE_DECODER = """
mask_token                    decoder/mask_token              token
decoder_pos_embed             decoder/pos_embed/table         tokens
decoder_embed                 decoder/embed                   dense
decoder_blocks.{i}.norm1      decoder/blocks/{i}/norm1        norm
decoder_blocks.{i}.attn.qkv   decoder/blocks/{i}/attn/qkv     qkv
decoder_blocks.{i}.attn.proj  decoder/blocks/{i}/attn/proj    merge_heads
decoder_blocks.{i}.norm2      decoder/blocks/{i}/norm2        norm
decoder_blocks.{i}.mlp.fc1    decoder/blocks/{i}/mlp/fc1      dense
decoder_blocks.{i}.mlp.fc2    decoder/blocks/{i}/mlp/fc2      dense
decoder_norm                  decoder/norm                    norm
decoder_pred                  decoder/pred                    dense
"""

SIMMIM_DECODER = """
decoder.0               decoder                         pixels
"""

SELF_SUPERVISED_HEADS = (r"head\.\d+\..*", r"head\.(mlp|last_layer2?)\..*", r"(predictor|projector)\..*")


def _packed(shapes: Shapes) -> bool:
    """Whether the first layer of the MLP makes twice what the second takes: a gate and what it multiplies."""
    first, second = shapes.get("blocks.0.mlp.fc1.weight"), shapes.get("blocks.0.mlp.fc2.weight")
    return bool(first and second and len(second) > 1 and first[0] == 2 * second[1])


def _not_packed(shapes: Shapes) -> bool:
    return not _packed(shapes)


LAYOUTS = (
    Layout(
        "mae",
        "MAE or LUT with its decoder",
        "vision_transformer",
        (EMBEDDING, BLOCKS, MLP, MAE_DECODER),
        required=("blocks.{i}.attn.qkv.weight", "decoder_embed.weight"),
        extras=SELF_SUPERVISED_HEADS,
        method="mae",
    ),
    Layout(
        "timm_vit",
        "a Vision Transformer in the names of MAE, DeiT, DINO, iBOT, MoCo v3, I-JEPA and timm",
        "vision_transformer",
        (EMBEDDING, TIMM_REGISTERS, IBOT_TOKEN, BLOCKS, LAYER_SCALE, AUTHORS_LAYER_SCALE, MLP, HEADS),
        required=("blocks.{i}.attn.qkv.weight", "blocks.{i}.mlp.fc1.weight"),
        absent=("decoder_embed.weight", "blocks.{i}.attn.q_bias", "head.0.running_mean"),
        when=_not_packed,
        extras=(*SELF_SUPERVISED_HEADS, r"mask_token", r"pre_logits\..*"),
        method="supervised",
        fields=FLAVOURS["deit"],
        unplaced_prefix=True,
    ),
    Layout(
        "timm_vit_swiglu",
        "a Vision Transformer with SwiGLU in the names of timm",
        "vision_transformer",
        (EMBEDDING, TIMM_REGISTERS, BLOCKS, LAYER_SCALE, TIMM_GATED_MLP, HEADS),
        required=("blocks.{i}.attn.qkv.weight", "blocks.{i}.mlp.fc1.weight"),
        absent=("decoder_embed.weight", "blocks.{i}.attn.q_bias", "mask_token"),
        when=_packed,
        method="supervised",
        fields=FLAVOURS["dinov2_swiglu_vit"] | {"mask_token": False},
        unplaced_prefix=True,
    ),
    Layout(
        "linear_probe",
        "a Vision Transformer with a linear probe behind batch norm (MAE, LUT)",
        "vision_transformer",
        (EMBEDDING, BLOCKS, MLP, PROBE),
        required=("blocks.{i}.attn.qkv.weight", "head.0.running_mean", "head.1.weight"),
        absent=("decoder_embed.weight", "head.1.running_mean"),
        extras=BUFFERS,
        method="supervised",
    ),
    Layout(
        "dinov2",
        "DINOv2",
        "vision_transformer",
        (EMBEDDING, DINOV2_TOKENS, BLOCKS, LAYER_SCALE, MLP, GATED_MLP),
        aliases=((r"^blocks\.\d+\.(\d+\.)", r"blocks.\1"),),  # blocks in chunks
        required=("blocks.{i}.attn.qkv.weight", "blocks.{i}.ls1.gamma", "mask_token"),
        extras=(r"(dino|ibot)_head\..*",),
        fields=FLAVOURS["dinov2_vit"],
    ),
    Layout(
        "beit",
        "BEiT, data2vec or a fine-tuned SimMIM Vision Transformer, in the names of their authors and timm",
        "vision_transformer",
        (EMBEDDING, MASK_TOKEN, BLOCKS, AUTHORS_LAYER_SCALE, MLP, BEIT_BLOCKS, HEADS),
        prefixes=("encoder.",),
        required=("blocks.{i}.attn.qkv.weight", "blocks.{i}.attn.q_bias"),
        absent=("decoder.0.weight", "layers.{i}.blocks.{j}.attn.qkv.weight"),
        extras=(*BUFFERS, r"lm_head\..*"),
        method="supervised",
        fields=FLAVOURS["beit"] | {"mask_token": False},
    ),
    Layout(
        "simmim_vit",
        "SimMIM on a Vision Transformer",
        "vision_transformer",
        (EMBEDDING, MASK_TOKEN, BLOCKS, AUTHORS_LAYER_SCALE, MLP, BEIT_BLOCKS, SIMMIM_DECODER),
        prefixes=("encoder.",),
        front="encoder.",
        required=("blocks.{i}.attn.qkv.weight", "decoder.0.weight"),
        extras=BUFFERS,
        method="simmim",
        fields=FLAVOURS["simmim_vit"],
    ),
)
