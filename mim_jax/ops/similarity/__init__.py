"""How alike two representations of the same images are: centred kernel alignment and shared neighbours."""

from mim_jax.ops.similarity.gram import cka_of_grams, hsic_biased, hsic_unbiased, linear_cka, linear_gram, rbf_gram
from mim_jax.ops.similarity.minibatch import MinibatchSums, minibatch_cka, minibatch_sums
from mim_jax.ops.similarity.neighbours import mutual_nearest_neighbours
from mim_jax.ops.similarity.streaming import CkaSums, cka_of_sums, cka_sums, merge_cka_sums

__all__ = [
    "CkaSums",
    "MinibatchSums",
    "cka_of_grams",
    "cka_of_sums",
    "cka_sums",
    "hsic_biased",
    "hsic_unbiased",
    "linear_cka",
    "linear_gram",
    "merge_cka_sums",
    "minibatch_cka",
    "minibatch_sums",
    "mutual_nearest_neighbours",
    "rbf_gram",
]
