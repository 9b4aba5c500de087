"""The configuration of a Vision Transformer from its weights."""

from typing import Any

from mim_jax.errors import InputError
from mim_jax.weights.evidence import Evidence, ratio
from mim_jax.weights.vit_positions import BIASES, position_fields

BLOCK = "encoder/blocks/0"
SHARED_BIAS, BLOCK_BIAS = BIASES
CLASS_TOKEN = "encoder/cls_token"


def vision_transformer_fields(evidence: Evidence) -> dict[str, Any]:
    """Fields of a `VisionTransformerConfig` that names and shapes tell; raises InputError for what must be stated."""
    width, channels, *patch = evidence.shape("encoder/patch_embed/kernel")
    fields: dict[str, Any] = {
        "width": width,
        "channels": channels,
        "patch_size": tuple(patch),
        "depth": evidence.count(r"encoder/blocks/(\d+)/"),
        "class_token": _class_token(evidence),
        "distillation_token": "encoder/dist_token" in evidence,
        "registers": evidence.shape("encoder/register_tokens")[1] if "encoder/register_tokens" in evidence else 0,
        "mask_token": "encoder/mask_token" in evidence,
        "qkv_bias": _qkv_bias(evidence),
        "query_key_norm": f"{BLOCK}/attn/q_norm/scale" in evidence,
        "final_norm": "encoder/norm/scale" in evidence,
        "relative_position_bias": _bias_kind(evidence),
        **_mlp(evidence, width),
    }
    if not evidence.has_layer_scale:
        fields["layer_scale"] = 0.0
    fields["num_heads"] = _heads(evidence, width)
    return fields | position_fields(evidence, fields)


def _class_token(evidence: Evidence) -> bool:
    """Whether there is one; raises InputError for several."""
    if CLASS_TOKEN not in evidence:
        return False
    tokens = evidence.shape(CLASS_TOKEN)[-2] if len(evidence.shape(CLASS_TOKEN)) > 1 else 1
    if tokens != 1:
        raise InputError(f"it has {tokens} class tokens, and an encoder with several is not supported")
    return True


def _qkv_bias(evidence: Evidence) -> str:
    if f"{BLOCK}/attn/q_bias" in evidence:
        return "query_value"
    return "all" if f"{BLOCK}/attn/qkv/bias" in evidence else "none"


def _bias_kind(evidence: Evidence) -> str:
    if SHARED_BIAS in evidence:
        return "shared"
    return "per_block" if BLOCK_BIAS in evidence else "none"


def _mlp(evidence: Evidence, width: int) -> dict[str, Any]:
    gated = f"{BLOCK}/mlp/w12/kernel" in evidence
    hidden = evidence.shape(f"{BLOCK}/mlp/{'w12' if gated else 'fc1'}/kernel")[0]
    return {"mlp": "swiglu" if gated else "gelu", "mlp_ratio": ratio(hidden, width)}


def _heads(evidence: Evidence, width: int) -> int:
    if "num_heads" in evidence.given:
        return int(evidence.given["num_heads"])
    for table in (SHARED_BIAS, BLOCK_BIAS):
        if table in evidence:
            return evidence.shape(table)[1]
    if f"{BLOCK}/attn/q_norm/scale" in evidence:
        return width // evidence.shape(f"{BLOCK}/attn/q_norm/scale")[0]
    return evidence.heads(width, "num_heads")
