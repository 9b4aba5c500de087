"""Names that tell what a network is, where it is none that is read here."""

import re
from collections.abc import Iterable

from mim_jax.weights.files.tensors import shown

STRANGERS: tuple[tuple[str, str], ...] = (
    (
        r"(.*\.)?_?flat_param(_\d+)?(_shard)?",
        "flat arrays of FSDP, of which every process has a shard; gather the full state dict and save that",
    ),
    (r".*\blora_[A-Za-z]+.*", "factors of LoRA; merge them into their model and save that"),
    (r".*\.(qweight|qzeros|SCB|weight_scale|weight_packed|absmax)", "quantised weights; save them as they were before"),
    (
        r"(.*\.)?(storage_tokens|rope_embed\..*|rope_embeddings\..*)|.*\.qkv\.bias_mask",
        "DINOv3 in its own names, with rotary positions, which are not supported",
    ),
    (r"(.*\.)?(rope\..*|rotary_emb.*|freqs_cis|freqs_(cos|sin))", "rotary positions, which are not supported"),
    (r"(.*\.)?last_norm\..*", "ViTPose or ViTDet, whose last_norm and positions are not supported"),
    (r".*\.rel_pos_[hw]", "decomposed relative positions (SAM, ViTDet, MViT), which are not supported"),
    (r".*\bresblocks\.\d+\..*", "a tower of CLIP in the names of OpenAI, which are not supported; take one of timm"),
    (
        r"(vision_model|text_model)\..*|(.*\.)?pre_layrnorm\..*",
        "a tower of CLIP or SigLIP in the names of Hugging Face, which is not supported",
    ),
    (r"(.*\.)?norm_pre\..*", "a norm in front of the blocks (CLIP), which is not supported"),
    (r"(.*\.)?attn_pool\..*", "attention pooling behind the blocks (SigLIP, CLIP), which is not supported"),
    (r".*\.attn\.(inner_attn_ln|norm)\..*|.*\.mlp\.(ffn_ln|fc1_[gx]|norm)\..*", "EVA-02, which is not supported"),
    (r"Transformer/encoderblock.*", "a Vision Transformer of JAX (big_vision); take its conversion for PyTorch"),
    (r"(.*\.)?(layer1\.0|layers\.0\.0)\.conv\d\..*", "a convolutional network (ResNet), which is not supported"),
    (r".*\b(dwconv|conv_dw|pwconv1)\..*", "ConvNeXt, which is not supported"),
)
"""Regular expression of a name to what has such names, as the end of a sentence."""

TOGETHER: tuple[tuple[tuple[str, ...], str], ...] = (
    (
        (r"(.*\.)?reg_token", r".*\.attn\.q_bias"),
        "registers beside separate biases of query and value, as DINOv3 in timm, with rotary positions, which are not "
        "supported",
    ),
)
"""The same for expressions that must all be found."""


def stranger(unknown: Iterable[str], names: Iterable[str] = ()) -> str:
    """A sentence about the first of some names that are known not to be read; "" if there are none.

    What is told by several names needs one of the unknown ones; the others may be among all `names`.
    """
    unknown, names = list(unknown), [*unknown, *names]
    for expressions, what in (*(((each,), what) for each, what in STRANGERS), *TOGETHER):
        among = [unknown, *(names for _ in expressions[1:])]
        found = [next(filter(re.compile(each).fullmatch, where), "") for each, where in zip(expressions, among)]
        if all(found):
            return f"it has {' and '.join(map(shown, found))}: {what}"
    return ""
