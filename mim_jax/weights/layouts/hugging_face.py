"""Vision Transformers in the names of Hugging Face's transformers.

The pages have the names of version 4; those of version 5 are turned into them first.
"""

from mim_jax.models.vit_presets import FLAVOURS
from mim_jax.weights.layouts.layout import BUFFERS, HALF, Layout

EMBEDDING = """
embeddings.cls_token                    encoder/cls_token           token
embeddings.position_embeddings          encoder/pos_embed/table     tokens
embeddings.patch_embeddings.projection  encoder/patch_embed         convolution
"""

MASK_TOKEN = """
embeddings.mask_token                   encoder/mask_token          token
"""

BLOCKS = """
encoder.layer.{i}.layernorm_before                       encoder/blocks/{i}/norm1      norm
encoder.layer.{i}.attention.attention.{query,key,value}  encoder/blocks/{i}/attn/qkv   qkv_parts
encoder.layer.{i}.attention.output.dense                 encoder/blocks/{i}/attn/proj  merge_heads
encoder.layer.{i}.layernorm_after                        encoder/blocks/{i}/norm2      norm
encoder.layer.{i}.intermediate.dense                     encoder/blocks/{i}/mlp/fc1    dense
encoder.layer.{i}.output.dense                           encoder/blocks/{i}/mlp/fc2    dense
"""

NORM = """
layernorm                               encoder/norm                norm
"""

HEADS = """
classifier                              head                        dense
"""

DISTILLATION_TOKEN = """
embeddings.distillation_token           encoder/dist_token          token
"""

DISTILLED_HEADS = """
cls_classifier                          head                        dense
distillation_classifier                 head_dist                   dense
"""

MAE_DECODER = """
decoder.mask_token                      decoder/mask_token          token
decoder.decoder_pos_embed               decoder/pos_embed/table     tokens
decoder.decoder_embed                   decoder/embed               dense

decoder.decoder_layers.{i}.layernorm_before                       decoder/blocks/{i}/norm1      norm
decoder.decoder_layers.{i}.attention.attention.{query,key,value}  decoder/blocks/{i}/attn/qkv   qkv_parts
decoder.decoder_layers.{i}.attention.output.dense                 decoder/blocks/{i}/attn/proj  merge_heads
decoder.decoder_layers.{i}.layernorm_after                        decoder/blocks/{i}/norm2      norm
decoder.decoder_layers.{i}.intermediate.dense                     decoder/blocks/{i}/mlp/fc1    dense
decoder.decoder_layers.{i}.output.dense                           decoder/blocks/{i}/mlp/fc2    dense

decoder.decoder_norm                    decoder/norm                norm
decoder.decoder_pred                    decoder/pred                dense
"""

PIXEL_DECODER = """
decoder.0                               decoder                     pixels
"""

BEIT_BLOCKS = """
encoder.layer.{i}.attention.attention.query.bias  encoder/blocks/{i}/attn/q_bias  heads
encoder.layer.{i}.attention.attention.value.bias  encoder/blocks/{i}/attn/v_bias  heads
encoder.layer.{i}.lambda_1                        encoder/blocks/{i}/gamma_1      vector
encoder.layer.{i}.lambda_2                        encoder/blocks/{i}/gamma_2      vector

encoder.layer.{i}.attention.attention.relative_position_bias.relative_position_bias_table \
        encoder/blocks/{i}/attn/relative_position_bias/table  table
encoder.relative_position_bias.relative_position_bias_table \
        encoder/relative_position_bias/table                  table
"""

BEIT_HEAD = """
pooler.layernorm                        fc_norm                     norm
"""

DINOV2_TOKENS = """
embeddings.mask_token                   encoder/mask_token          row
embeddings.register_tokens              encoder/register_tokens     tokens
"""

DINOV2_BLOCKS = """
encoder.layer.{i}.norm1                                  encoder/blocks/{i}/norm1      norm
encoder.layer.{i}.attention.attention.{query,key,value}  encoder/blocks/{i}/attn/qkv   qkv_parts
encoder.layer.{i}.attention.output.dense                 encoder/blocks/{i}/attn/proj  merge_heads
encoder.layer.{i}.layer_scale1.lambda1                   encoder/blocks/{i}/gamma_1    vector
encoder.layer.{i}.norm2                                  encoder/blocks/{i}/norm2      norm
encoder.layer.{i}.mlp.fc1                                encoder/blocks/{i}/mlp/fc1    dense
encoder.layer.{i}.mlp.fc2                                encoder/blocks/{i}/mlp/fc2    dense
encoder.layer.{i}.mlp.weights_in                         encoder/blocks/{i}/mlp/w12    gate
encoder.layer.{i}.mlp.weights_out                        encoder/blocks/{i}/mlp/w3     dense
encoder.layer.{i}.layer_scale2.lambda1                   encoder/blocks/{i}/gamma_2    vector
"""

ATTENTION_OF_VERSION_5 = (
    (r"^layers\.", "encoder.layer."),
    (
        r"^encoder\.layer\.(\d+)\.relative_position_bias\.",
        r"encoder.layer.\1.attention.attention.relative_position_bias.",
    ),
    (r"attention\.q_proj\.", "attention.attention.query."),
    (r"attention\.k_proj\.", "attention.attention.key."),
    (r"attention\.v_proj\.", "attention.attention.value."),
    (r"attention\.o_proj\.", "attention.output.dense."),
)

VERSION_5 = (
    *ATTENTION_OF_VERSION_5,
    (r"(layer|decoder_layers)\.(\d+)\.mlp\.fc1\.", r"\1.\2.intermediate.dense."),
    (r"(layer|decoder_layers)\.(\d+)\.mlp\.fc2\.", r"\1.\2.output.dense."),
)

NORM_EPSILON = {"norm_epsilon": 1e-12}
"""Of the Vision Transformers there, but for DINOv2, which has 1e-6 as its authors."""

QUERY = "encoder.layer.{i}.attention.attention.query.weight"

LAYOUTS = (
    Layout(
        "hf_deit",
        "DeiT of Hugging Face",
        "vision_transformer",
        (EMBEDDING, DISTILLATION_TOKEN, MASK_TOKEN, BLOCKS, NORM, HEADS, DISTILLED_HEADS),
        prefixes=("deit.",),
        front="deit.",
        aliases=VERSION_5,
        required=(QUERY, "embeddings.distillation_token"),
        absent=("decoder.0.weight",),
        extras=(r"pooler\..*",),
        method="supervised",
        fields=FLAVOURS["deit"] | NORM_EPSILON,
        mean=HALF,
        std=HALF,
    ),
    Layout(
        "hf_vit",
        "ViT or I-JEPA of Hugging Face",
        "vision_transformer",
        (EMBEDDING, MASK_TOKEN, BLOCKS, NORM, HEADS),
        prefixes=("vit.", "ijepa."),
        front="vit.",
        aliases=VERSION_5,
        required=(QUERY,),
        absent=(
            "decoder.0.weight",
            "decoder.decoder_embed.weight",
            "embeddings.distillation_token",
            "encoder.layer.{i}.lambda_1",
            "encoder.layer.{i}.layer_scale1.lambda1",
        ),
        extras=(r"pooler\..*",),
        method="supervised",
        fields=FLAVOURS["deit"] | NORM_EPSILON,
        mean=HALF,
        std=HALF,
    ),
    Layout(
        "hf_vit_masked",
        "ViT for masked image modeling of Hugging Face",
        "vision_transformer",
        (EMBEDDING, MASK_TOKEN, BLOCKS, NORM, PIXEL_DECODER),
        prefixes=("vit.",),
        front="vit.",
        aliases=VERSION_5,
        required=(QUERY, "decoder.0.weight"),
        method="simmim",
        fields=FLAVOURS["deit"] | NORM_EPSILON,
        mean=HALF,
        std=HALF,
    ),
    Layout(
        "hf_vitmae",
        "ViTMAE of Hugging Face",
        "vision_transformer",
        (EMBEDDING, BLOCKS, NORM, MAE_DECODER),
        prefixes=("vit.",),
        front="vit.",
        aliases=(*VERSION_5, (r"^decoder\.decoder_encoder\.layer\.", "decoder.decoder_layers.")),
        required=(QUERY, "decoder.decoder_embed.weight"),
        method="mae",
        fields=NORM_EPSILON,
    ),
    Layout(
        "hf_beit",
        "BEiT or data2vec of Hugging Face",
        "vision_transformer",
        (EMBEDDING, MASK_TOKEN, BLOCKS, BEIT_BLOCKS, NORM, BEIT_HEAD, HEADS),
        prefixes=("beit.", "data2vec_vision."),
        front="beit.",
        fronted=("encoder/", "fc_norm/"),
        aliases=VERSION_5,
        required=(QUERY, "encoder.layer.{i}.attention.attention.query.bias"),
        absent=("encoder.layer.{i}.attention.attention.key.bias",),
        extras=(*BUFFERS, r"lm_head\..*"),
        method="supervised",
        fields=FLAVOURS["beit"] | NORM_EPSILON | {"mask_token": False},
        mean=HALF,
        std=HALF,
    ),
    Layout(
        "hf_dinov2",
        "DINOv2 of Hugging Face",
        "vision_transformer",
        (EMBEDDING, DINOV2_TOKENS, DINOV2_BLOCKS, NORM, HEADS),
        prefixes=("dinov2.",),
        front="dinov2.",
        aliases=ATTENTION_OF_VERSION_5,
        required=(QUERY, "encoder.layer.{i}.layer_scale1.lambda1"),
        absent=("embeddings.register_tokens",),
        method="supervised",
        fields=FLAVOURS["dinov2_vit"],
        readout="class_token_and_mean",
    ),
    Layout(
        "hf_dinov2_with_registers",
        "DINOv2 with registers of Hugging Face",
        "vision_transformer",
        (EMBEDDING, DINOV2_TOKENS, DINOV2_BLOCKS, NORM, HEADS),
        prefixes=("dinov2_with_registers.",),
        front="dinov2_with_registers.",
        aliases=ATTENTION_OF_VERSION_5,
        required=(QUERY, "encoder.layer.{i}.layer_scale1.lambda1", "embeddings.register_tokens"),
        method="supervised",
        fields=FLAVOURS["dinov2_reg4_vit"],
        readout="class_token_and_mean",
    ),
)
