"""Statistics of attention from queries and keys; no attention map leaves the device."""

from mim_jax.ops.attention_statistics.statistics import (
    IMPLEMENTATIONS,
    AttentionStatistics,
    attention_statistics,
    statistics_of_logits,
)
from mim_jax.ops.attention_statistics.uniform import uniform_attention_distance, uniform_attention_entropy

__all__ = [
    "IMPLEMENTATIONS",
    "AttentionStatistics",
    "attention_statistics",
    "statistics_of_logits",
    "uniform_attention_distance",
    "uniform_attention_entropy",
]
