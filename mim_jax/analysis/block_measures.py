"""What is measured of one block: by an observer inside it, and of the tokens behind it."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, Mesh
from jaxtyping import Array, Float

from mim_jax.models.encoder import Tokens
from mim_jax.ops.attention import Bias, Observation, Observer, Windows, attention_logits
from mim_jax.ops.attention_compat import compat_statistics
from mim_jax.ops.attention_statistics import AttentionStatistics, attention_statistics
from mim_jax.ops.fourier import relative_log_amplitude
from mim_jax.ops.spectra import token_log_spectrum, top_singular_shares
from mim_jax.ops.token_statistics import feature_variance, magnitudes, norm_histogram, outlier_share, token_norms

Pair = tuple[int, int]
Tree = dict[str, Any]
AnyMesh = Mesh | AbstractMesh

SINGULAR_SHARES = 5


@dataclasses.dataclass(frozen=True)
class Selection:
    """What is measured.

    Attributes:
        names: names of `STATISTICS`, or () for all. What is not named is not computed.
        queries: "class", "registers", "patches", or () for all that the encoder has.
        arrays: whether maps, histograms and spectra are kept too, as figures need them.
        compat: whether the numbers that the code of other papers would give are computed beside.
        spectra: whether the spectra of the tokens of each image are computed; they take a decomposition per image.
        implementation: that of `attention_statistics`; chosen by size and platform if None.
    """

    names: tuple[str, ...] = ()
    queries: tuple[str, ...] = ()
    arrays: bool = True
    compat: bool = False
    spectra: bool = False
    implementation: str | None = None

    def keeps(self, name: str) -> bool:
        """Whether a statistic is asked for."""
        return not self.names or name in self.names or "/" in name

    def of(self, groups: Mapping[str, Tree]) -> dict[str, Tree]:
        """What is asked for, of statistics by query group and name."""
        kept = {
            query: {name: values for name, values in own.items() if self.keeps(name)}
            for query, own in groups.items()
            if not self.queries or query in self.queries or not query
        }
        return {query: own for query, own in kept.items() if own}


def joined(*groups: Mapping[str, Tree]) -> dict[str, Tree]:
    """Statistics by query group and name, of several sources."""
    joined: dict[str, Tree] = {}
    for own in groups:
        for query, statistics in own.items():
            joined[query] = joined.get(query, {}) | statistics
    return joined


def observer(
    grid: Pair, prefix: int, patch_size: Pair, selection: Selection = Selection(), mesh: AnyMesh | None = None
) -> Observer:
    """An observer that returns what is measured of a block per image: `token_measures`, and "heads" besides.

    `grid` is that of the embedded patches, of `patch_size` pixels. Within windows the distance is that of tokens of one
    window, in pixels of the image; every window counts alike.
    """

    def observe(observation: Observation) -> Tree:
        windows, output = observation.windows, observation.block_output
        assert output is not None  # every encoder gives it
        if windows is None:
            statistics = _global(observation, grid, prefix, patch_size, selection, mesh)
        else:
            statistics = _windowed(observation, windows, mesh)
        compat = selection.compat and windows is None
        heads = {"": _compat(observation, grid, prefix, patch_size)} if compat else {}
        heads = selection.of(joined(statistics.heads, heads))
        means = {query: {name: x.mean(axis=-1) for name, x in own.items()} for query, own in heads.items()}
        tokens = token_measures(Tokens(output, _stage_grid(grid, patch_size, windows), prefix), selection)
        layers = joined(means, selection.of({"": statistics.layer}), _updates(observation, output, prefix, selection))
        arrays = _arrays(statistics) if selection.arrays else {}
        return tokens | {
            "heads": heads,
            "layers": joined(layers, tokens["layers"]),
            "arrays": arrays | tokens["arrays"],
        }

    return observe


def _stage_grid(grid: Pair, patch_size: Pair, windows: Windows | None) -> Pair:
    """Rows and columns of tokens of a stage."""
    if windows is None:
        return grid
    rows, columns = (-(-side * patch // stride) for side, patch, stride in zip(grid, patch_size, windows.stride))
    return rows, columns


def _updates(
    observation: Observation, output: Float[Array, "b t d"], prefix: int, selection: Selection
) -> dict[str, Tree]:
    """How much attention and MLP add to the tokens."""
    before, branch, after = (
        x.astype(jnp.float32) for x in (observation.block_input, observation.branch_output, output)
    )
    ratios = {
        "update_magnitude": magnitudes(before, branch),
        "mlp_update_magnitude": magnitudes(before + branch, after - before - branch),
    }
    return selection.of(_by_query(ratios, prefix))


def _global(
    observation: Observation, grid: Pair, prefix: int, patch_size: Pair, selection: Selection, mesh: AnyMesh | None
) -> AttentionStatistics:
    return attention_statistics(
        observation.query,
        observation.key,
        grid=grid,
        prefix=prefix,
        patch_size=patch_size,
        scale=observation.scale,
        bias=observation.bias,
        implementation=selection.implementation,
        mesh=mesh,
    )


def _windowed(observation: Observation, windows: Windows, mesh: AnyMesh | None) -> AttentionStatistics:
    """Mean over windows."""
    bias = observation.bias

    def of_window(query: Float[Array, "b k n e"], key: Float[Array, "b k n e"], bias: Bias) -> AttentionStatistics:
        return attention_statistics(
            query, key, grid=windows.size, patch_size=windows.stride, scale=observation.scale, bias=bias, mesh=mesh
        )

    one_for_each = bias is not None and bias.ndim == 4 and bias.shape[0] > 1
    shared = bias if bias is None or bias.ndim == 3 else bias[0]
    over_windows = jax.vmap(of_window, in_axes=(1, 1, 0 if one_for_each else None))
    statistics = over_windows(observation.query, observation.key, bias if one_for_each else shared)
    return jax.tree.map(lambda values: values.mean(axis=0), statistics)


def _compat(observation: Observation, grid: Pair, prefix: int, patch_size: Pair) -> Tree:
    with jax.default_matmul_precision("highest"):
        logits = attention_logits(observation.query, observation.key, observation.scale, observation.bias)
    return compat_statistics(logits, grid=grid, prefix=prefix, patch_size=patch_size)


def _arrays(statistics: AttentionStatistics) -> Tree:
    """Maps for figures."""
    return {
        "kl_between_heads": statistics.kl_between_heads,
        "attention_received": statistics.attention_received,
        "aligned_attention": statistics.aligned_attention,
    }


def _by_query(values: Mapping[str, Float[Array, "b n"]], prefix: int) -> dict[str, Tree]:
    """Means over the tokens of every query group, of values by name and token."""
    parts = {"class": slice(0, min(prefix, 1)), "registers": slice(1, prefix), "patches": slice(prefix, None)}
    return {
        query: {name: value[:, part].mean(axis=1) for name, value in values.items()}
        for query, part in parts.items()
        if query == "patches" or part.start < part.stop
    }


def token_measures(out: Tokens, selection: Selection = Selection()) -> Tree:
    """Statistics of the tokens behind one block, per image: "layers", "arrays", "features" and "finite"."""
    norms = token_norms(jnp.asarray(out.tokens))
    amplitude = relative_log_amplitude(out.map)
    layers = joined(
        _by_query({"token_norm": norms}, out.prefix),
        {
            "patches": {"outlier_share": outlier_share(norms[:, out.prefix :])},
            "": {
                "feature_variance": feature_variance(out.map.astype(jnp.float32)),
                "fourier_relative_log_amplitude": amplitude[:, -1],
            },
        },
    )
    arrays = {"norm_histogram": norm_histogram(norms), "fourier_relative_log_amplitude": amplitude}
    if selection.spectra:
        shares = top_singular_shares(out.patches, SINGULAR_SHARES)
        layers = joined(layers, {"": {"top_singular_share": shares[:, 0]}})
        arrays |= {"top_singular_shares": shares, "token_log_spectrum": token_log_spectrum(out.patches)}
    features = {"pooled": out.patches.astype(jnp.float32).mean(axis=1)}
    if out.prefix:
        features["class"] = out.tokens[:, 0].astype(jnp.float32)
    finite = jnp.isfinite(out.tokens).all(axis=(1, 2))
    kept = arrays if selection.arrays else {}
    return {"layers": selection.of(layers), "arrays": kept, "features": features, "finite": finite}
