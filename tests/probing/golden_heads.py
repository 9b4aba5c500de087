"""Compares poolings, with the classifier behind them, with the golden cases of the original heads."""

import re
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np

from mim_jax.pretraining.heads import STATISTICS
from mim_jax.probing.head import ProbeHead
from mim_jax.probing.pooling.frozen import FrozenTokens, Pooling
from tests import golden_cases
from tests.golden_cases import relative_error

TOLERANCE = 2e-5  # 1.1e-5 at most, on a CPU without AVX-512
SMALL_GRADIENT = 0.3
"""Errors of a gradient are relative to its largest number, or to this where that is smaller.

The gradients of the classifier are as large as this. Behind a batch norm the differences that make up a gradient nearly
cancel, at worst to a ten thousandth; what the original recorded in float32 is then off by some millionths of the
terms, as the same gradients computed in float64 show.
"""

Renames = tuple[tuple[str, str], ...]

_LEAVES = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "variance": "running_var"}
_HEAD: Renames = ((r"^head\.batch_norm", "bn"), (r"^head\.", ""))


def frozen(tokens: Any, class_token: Any = None) -> FrozenTokens:
    """Tokens of a square grid, behind a class token `[b, 1, d]` if there is one."""
    side, front = round(tokens.shape[1] ** 0.5), [] if class_token is None else [class_token]
    return FrozenTokens(tokens=jnp.concatenate([*front, tokens], axis=1), grid=(side, side), prefix=len(front))


def example(width: int = 24, side: int = 4, batch: int = 3, prefix: int = 1, dtype: Any = jnp.float32) -> FrozenTokens:
    """Random tokens."""
    tokens = np.random.default_rng(0).standard_normal((batch, prefix + side * side, width))
    return FrozenTokens(tokens=jnp.asarray(tokens, dtype), grid=(side, side), prefix=prefix)


def parameter_count(pooling: Pooling, width: int = 768, side: int = 14) -> int:
    """Number of parameters for tokens of this width on a square grid."""
    tokens = FrozenTokens(tokens=jnp.zeros((1, 1 + side * side, width)), grid=(side, side), prefix=1)
    shapes = jax.eval_shape(pooling.init, jax.random.key(0), tokens)
    return sum(leaf.size for leaf in jax.tree.leaves(shapes.get("params", {})))


def their_name(path: tuple[str, ...], renames: Renames) -> str:
    """Name in the original of what lies at a path of ours."""
    name = ".".join((*path[:-1], _LEAVES.get(path[-1], path[-1])))
    for pattern, target in (*renames, *_HEAD):
        name = re.sub(pattern, target, name)
    return name


def our_array(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A tensor of the original in the shape and order of ours: kernels are transposed."""
    if array.ndim == 4 and array.shape[-1] > 1:
        return array.transpose(2, 3, 1, 0)
    if array.ndim == 2 or array.ndim == 4:
        array = array.reshape(array.shape[:2]).T
    return array.reshape(shape)


def our_tree(like: Any, tensors: dict[str, np.ndarray], renames: Renames) -> Any:
    """Tensors of the original in the tree of ours; None where the original has none."""

    def fetch(path: tuple[str, ...], leaf: Any) -> Any:
        theirs = tensors.get(their_name(path, renames))
        if theirs is None:
            return None
        is_table = path[-1] in ("query", "pos_embed")
        return theirs.reshape(leaf.shape) if is_table else our_array(theirs, leaf.shape)

    return flax.traverse_util.path_aware_map(fetch, like)


def with_prefix(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """The arrays whose names start so, without that start."""
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


class Probe(flax.linen.Module):
    """A pooling and its classifier; returns both the feature and the logits."""

    pooling: Pooling
    head: ProbeHead

    def __call__(self, tokens: FrozenTokens, training: bool = False) -> Any:
        """Feature and logits."""
        pooled = self.pooling(tokens, training)
        return pooled, self.head(pooled, training)


def errors(case: str, pooling: Pooling, renames: Renames = (), tensors: Any = None) -> dict[str, float]:
    """Largest relative error of everything that a case of `probe/` recorded, by its name.

    `tensors` are the parameters where the case has them in its checkpoint only.
    """
    arrays = golden_cases.arrays(f"probe/{case}")
    tokens, labels = frozen(arrays["tokens"]), arrays["labels"]
    probe = Probe(pooling, ProbeHead(classes=arrays["logits"].shape[1]))
    shapes = jax.eval_shape(probe.init, jax.random.key(0), tokens)
    start = tensors or with_prefix(arrays, "param/")
    variables = {name: our_tree(tree, start, renames) for name, tree in shapes.items()}
    ours = _run(probe, variables, tokens, labels)
    after = our_tree(shapes[STATISTICS], with_prefix(arrays, "after/"), renames)
    gradients = our_tree(shapes["params"], with_prefix(arrays, "grad/"), renames)
    plain = {name: arrays[name] for name in ("pooled", "logits", "logits_train", "loss", "grad_tokens")}
    return {
        **{name: relative_error(ours[name], theirs) for name, theirs in plain.items()},
        **_tree_errors(ours["after"], after),
        **({} if tensors else _tree_errors(ours["gradients"], gradients, SMALL_GRADIENT)),
    }


def class_token_error(name: str, pooling: Pooling, renames: Renames = ()) -> float:
    """Relative error of a pooling in the case where a class token is the query."""
    arrays = golden_cases.arrays("probe/with_class_token")
    tokens = frozen(arrays["tokens"], arrays["cls"])
    shapes = jax.eval_shape(pooling.init, jax.random.key(0), tokens)
    theirs = with_prefix(arrays, f"param/{name}.")
    variables = {collection: our_tree(tree, theirs, renames) for collection, tree in shapes.items()}
    return relative_error(apply(pooling, variables, tokens), arrays[f"pooled_{name}"])


def initial(pooling: Pooling, tokens: FrozenTokens) -> Any:
    """Fresh variables of a pooling."""
    return jax.jit(pooling.init)(jax.random.key(1), tokens)


def drawn(pooling: Pooling, tokens: FrozenTokens) -> Any:
    """Random parameters of a pooling, larger than fresh ones, and running statistics of standard numbers."""
    random, statistics = np.random.default_rng(1), {"mean": jnp.zeros, "variance": jnp.ones}

    def draw(path: tuple[str, ...], leaf: Any) -> Any:
        if path[0] == STATISTICS:
            return statistics[path[-1]](leaf.shape)
        return jnp.asarray(0.3 * random.standard_normal(leaf.shape), jnp.float32)

    shapes = jax.eval_shape(pooling.init, jax.random.key(0), tokens)
    return flax.traverse_util.path_aware_map(draw, shapes)


def apply(pooling: Pooling, variables: Any, tokens: FrozenTokens, method: str = "__call__") -> Any:
    """What a pooling makes of tokens, compiled."""
    return jax.jit(lambda *given: pooling.apply(*given, method=method))(variables, tokens)


def _run(probe: Probe, variables: dict[str, Any], tokens: FrozenTokens, labels: np.ndarray) -> dict[str, Any]:
    """Inference, and loss, gradients and new statistics in training."""

    @jax.jit
    def run(parameters: Any, statistics: Any, tokens: FrozenTokens, labels: Any) -> dict[str, Any]:
        def loss(parameters: Any, values: Any) -> Any:
            (_, logits), changed = probe.apply(
                {"params": parameters, STATISTICS: statistics},
                tokens.replace(tokens=values),
                True,
                mutable=[STATISTICS],
            )
            losses = -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1)
            return losses.mean(), (logits, changed[STATISTICS])

        pooled, logits = probe.apply({"params": parameters, STATISTICS: statistics}, tokens)
        (value, (in_training, after)), (gradients, to_tokens) = jax.value_and_grad(loss, (0, 1), has_aux=True)(
            parameters, tokens.tokens
        )
        outputs = {"pooled": pooled, "logits": logits, "logits_train": in_training, "loss": value, "after": after}
        return {**outputs, "gradients": gradients, "grad_tokens": to_tokens}

    return run(variables["params"], variables[STATISTICS], tokens, labels)


def _tree_errors(ours: Any, theirs: Any, smallest: float = 0.0) -> dict[str, float]:
    """Errors of leaves, relative to the largest number in it or to `smallest`.

    A gradient that the original leaves out is zero.
    """
    flat = flax.traverse_util.flatten_dict(theirs, sep="/")
    return {
        name: _error(np.asarray(leaf), np.zeros(leaf.shape) if flat[name] is None else flat[name], smallest)
        for name, leaf in flax.traverse_util.flatten_dict(ours, sep="/").items()
    }


def _error(ours: np.ndarray, theirs: np.ndarray, smallest: float) -> float:
    return float(np.abs(ours - theirs).max() / max(np.abs(theirs).max(), smallest))
