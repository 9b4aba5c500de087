"""Swin Transformers of both versions, in the names of their authors, timm and Hugging Face."""

from functools import partial

from mim_jax.weights.layouts.layout import BUFFERS, Layout

EMBEDDING = """
patch_embed.proj    encoder/patch_embed         convolution
patch_embed.norm    encoder/patch_norm          norm
absolute_pos_embed  encoder/pos_embed/table     tokens
norm                encoder/norm                norm
"""

BLOCKS = """
layers.{s}.blocks.{i}.norm1      encoder/stage{s}/blocks/{i}/norm1      norm
layers.{s}.blocks.{i}.attn.qkv   encoder/stage{s}/blocks/{i}/attn/qkv   qkv
layers.{s}.blocks.{i}.attn.proj  encoder/stage{s}/blocks/{i}/attn/proj  merge_heads
layers.{s}.blocks.{i}.norm2      encoder/stage{s}/blocks/{i}/norm2      norm
layers.{s}.blocks.{i}.mlp.fc1    encoder/stage{s}/blocks/{i}/mlp/fc1    dense
layers.{s}.blocks.{i}.mlp.fc2    encoder/stage{s}/blocks/{i}/mlp/fc2    dense
"""

VERSION_1 = """
layers.{s}.blocks.{i}.attn.relative_position_bias_table  encoder/stage{s}/blocks/{i}/attn/relative_position_bias/table  table
"""  # noqa: E501

VERSION_2 = """
layers.{s}.blocks.{i}.attn.q_bias            encoder/stage{s}/blocks/{i}/attn/q_bias                   heads
layers.{s}.blocks.{i}.attn.v_bias            encoder/stage{s}/blocks/{i}/attn/v_bias                   heads
layers.{s}.blocks.{i}.attn.logit_scale       encoder/stage{s}/blocks/{i}/attn/logit_scale              factors
layers.{s}.blocks.{i}.attn.cpb_mlp.0         encoder/stage{s}/blocks/{i}/attn/position_mlp/fc1         dense
layers.{s}.blocks.{i}.attn.cpb_mlp.2         encoder/stage{s}/blocks/{i}/attn/position_mlp/fc2         dense
"""

MERGING = """
layers.{s}.downsample.reduction  encoder/stage{s}/merging/reduction     dense
layers.{s}.downsample.norm       encoder/stage{s}/merging/norm          norm
"""

TIMM_MERGING = """
layers.{s+1}.downsample.reduction  encoder/stage{s}/merging/reduction   dense
layers.{s+1}.downsample.norm       encoder/stage{s}/merging/norm        norm
"""

MASK_TOKEN = """
mask_token          encoder/mask_token          token
"""

HEAD = """
head                head                        dense
"""

TIMM_HEAD = """
head.fc             head                        dense
"""

DECODER = """
decoder.0           decoder                     pixels
"""

HUGGING_FACE = """
embeddings.patch_embeddings.projection                        encoder/patch_embed                     convolution
embeddings.norm                                               encoder/patch_norm                      norm
embeddings.position_embeddings                                encoder/pos_embed/table                 tokens
embeddings.mask_token                                         encoder/mask_token                      token
encoder.layers.{s}.blocks.{i}.layernorm_before                encoder/stage{s}/blocks/{i}/norm1       norm
encoder.layers.{s}.blocks.{i}.attention.self.{query,key,value}  encoder/stage{s}/blocks/{i}/attn/qkv  qkv_parts
encoder.layers.{s}.blocks.{i}.attention.output.dense          encoder/stage{s}/blocks/{i}/attn/proj   merge_heads
encoder.layers.{s}.blocks.{i}.layernorm_after                 encoder/stage{s}/blocks/{i}/norm2       norm
encoder.layers.{s}.blocks.{i}.intermediate.dense              encoder/stage{s}/blocks/{i}/mlp/fc1     dense
encoder.layers.{s}.blocks.{i}.output.dense                    encoder/stage{s}/blocks/{i}/mlp/fc2     dense
encoder.layers.{s}.downsample.reduction                       encoder/stage{s}/merging/reduction      dense
encoder.layers.{s}.downsample.norm                            encoder/stage{s}/merging/norm           norm
layernorm                                                     encoder/norm                            norm
"""

HUGGING_FACE_1 = """
encoder.layers.{s}.blocks.{i}.attention.self.relative_position_bias_table  encoder/stage{s}/blocks/{i}/attn/relative_position_bias/table  table
"""  # noqa: E501

HUGGING_FACE_2 = """
encoder.layers.{s}.blocks.{i}.attention.self.query.bias    encoder/stage{s}/blocks/{i}/attn/q_bias                    heads
encoder.layers.{s}.blocks.{i}.attention.self.value.bias    encoder/stage{s}/blocks/{i}/attn/v_bias                    heads
encoder.layers.{s}.blocks.{i}.attention.self.logit_scale   encoder/stage{s}/blocks/{i}/attn/logit_scale               factors
encoder.layers.{s}.blocks.{i}.attention.self.continuous_position_bias_mlp.0  encoder/stage{s}/blocks/{i}/attn/position_mlp/fc1  dense
encoder.layers.{s}.blocks.{i}.attention.self.continuous_position_bias_mlp.2  encoder/stage{s}/blocks/{i}/attn/position_mlp/fc2  dense
"""  # noqa: E501

HUGGING_FACE_HEAD = """
classifier          head                        dense
"""

OTHER_NAMES = ((r"\.rpe_mlp\.", ".cpb_mlp."), (r"^norm3\.", "norm."))  # older files, dense networks

VERSION_5 = (
    (r"^layers\.", "encoder.layers."),
    (r"\.attention\.q_proj\.", ".attention.self.query."),
    (r"\.attention\.k_proj\.", ".attention.self.key."),
    (r"\.attention\.v_proj\.", ".attention.self.value."),
    (r"\.attention\.o_proj\.", ".attention.output.dense."),
    (r"\.attention\.relative_position_bias\.", ".attention.self."),
    (r"\.mlp\.fc1\.", ".intermediate.dense."),
    (r"\.mlp\.fc2\.", ".output.dense."),
)

QKV = "layers.{s}.blocks.{i}.attn.qkv.weight"
SCALE = "layers.{s}.blocks.{i}.attn.logit_scale"
QUERY = "encoder.layers.{s}.blocks.{i}.attention.self.query.weight"
HUGGING_FACE_SCALE = "encoder.layers.{s}.blocks.{i}.attention.self.logit_scale"
MERGES = "layers.0.downsample.reduction.weight"
HUGGING_FACE_MERGES = "encoder.layers.0.downsample.reduction.weight"


def _layouts(version: int) -> tuple[Layout, ...]:
    """The layouts of one version of Swin; they differ in what tells where a token is."""
    second = version == 2
    positions, hugging_face_positions = (VERSION_2, HUGGING_FACE_2) if second else (VERSION_1, HUGGING_FACE_1)
    required, hugging_face_required = ((QKV, SCALE), (QUERY, HUGGING_FACE_SCALE)) if second else ((QKV,), (QUERY,))
    absent, hugging_face_absent = ((), ()) if second else ((SCALE,), (HUGGING_FACE_SCALE,))
    name, title = ("swinv2", "Swin V2") if second else ("swin", "Swin")
    encoder = (EMBEDDING, MASK_TOKEN, BLOCKS, positions)
    fields = {"version": version, "embedding_init": "torch_default"}
    common = partial(Layout, family="swin_transformer", extras=BUFFERS, fields=fields)
    original = partial(common, aliases=OTHER_NAMES, prefixes=("encoder.",))
    hugging_face = partial(common, aliases=VERSION_5, prefixes=(f"{name}.",), front=f"{name}.")
    return (
        original(
            name,
            f"{title} in the names of its authors (and older timm)",
            pages=(*encoder, MERGING, HEAD),
            required=(*required, MERGES),
            absent=(*absent, "decoder.0.weight", "head.fc.weight"),
            method="supervised",
            readout="mean",
        ),
        original(
            f"simmim_{name}",
            f"SimMIM on {title}",
            pages=(*encoder, MERGING, DECODER),
            required=(*required, MERGES, "decoder.0.weight"),
            absent=absent,
            front="encoder.",
            method="simmim",
        ),
        common(
            f"timm_{name}",
            f"{title} in the names of timm",
            pages=(*encoder, TIMM_MERGING, TIMM_HEAD),
            required=(*required, "layers.1.downsample.reduction.weight"),
            absent=(*absent, MERGES),
            method="supervised",
            readout="mean",
        ),
        hugging_face(
            f"hf_{name}",
            f"{title} of Hugging Face",
            pages=(HUGGING_FACE, hugging_face_positions, HUGGING_FACE_HEAD),
            required=(*hugging_face_required, HUGGING_FACE_MERGES),
            absent=(*hugging_face_absent, "decoder.0.weight"),
            method="supervised",
            readout="mean",
        ),
        hugging_face(
            f"hf_{name}_masked",
            f"{title} for masked image modeling of Hugging Face",
            pages=(HUGGING_FACE, hugging_face_positions, DECODER),
            required=(*hugging_face_required, HUGGING_FACE_MERGES, "decoder.0.weight"),
            absent=hugging_face_absent,
            method="simmim",
        ),
    )


LAYOUTS = (*_layouts(1), *_layouts(2))
