"""A stack of transformer blocks: unrolled or scanned, rematerialised or not."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from mim_jax.models.attention import Attention, AttentionConfig
from mim_jax.models.layers import DropPath, Dtype, GatedMlp, LayerNorm, Mlp, drop_path
from mim_jax.models.stacking import STACKED
from mim_jax.ops.attention import Bias, Observation, Observer

Module = TypeVar("Module", bound=nn.Module)

BlocksOutput = tuple[Float[Array, "b n d"], Any, dict[int, Float[Array, "b n d"]]]
"""What the last block returned, the observer's results stacked over blocks, the taps by number of the block."""

REMAT_POLICIES = {
    "none": None,
    "full": jax.checkpoint_policies.nothing_saveable,
    "dots": jax.checkpoint_policies.checkpoint_dots,
    "dots_no_batch": jax.checkpoint_policies.checkpoint_dots_with_no_batch_dims,
}
"""What the backward pass finds saved: everything, nothing, all products, products without a batch axis (weights')."""


@dataclasses.dataclass(frozen=True)
class Computation:
    """How a model is computed; never what it computes.

    Attributes:
        dtype: type of the computation, "float32" or "bfloat16".
        remat: a name of `REMAT_POLICIES`.
        scan_blocks: compile one block and scan over the stacked parameters of all.
    """

    dtype: str = "float32"
    remat: str = "none"
    scan_blocks: bool = False

    def rematerialise(self, block: type[Module]) -> type[Module]:
        """The block as its backward pass is to see it."""
        if self.remat == "none":
            return block
        return nn.remat(block, policy=REMAT_POLICIES[self.remat], prevent_cse=not self.scan_blocks)


@dataclasses.dataclass(frozen=True)
class BlockConfig:
    """What defines a pre-norm transformer block.

    Attributes:
        attention: its attention layer.
        mlp: "gelu", two layers with an activation between, or "swiglu", the gated one.
        mlp_ratio: width of what the first layer of the MLP makes, over the token width; a gate takes half of it.
        layer_scale: what the factors on the branches start with; 0 for no factors.
        norm_epsilon: epsilon of the norms.
        activation: between the two layers, a name of `ops.activations.ACTIVATIONS`.
    """

    attention: AttentionConfig
    mlp: str = "gelu"
    mlp_ratio: float = 4.0
    layer_scale: float = 0.0
    norm_epsilon: float = 1e-6
    activation: str = "gelu"


class Block(nn.Module):
    """Pre-norm transformer block: attention and MLP, each on a residual branch."""

    config: BlockConfig
    dtype: Dtype = jnp.float32
    observer: Observer | None = None

    @nn.compact
    def __call__(
        self, x: Float[Array, "b n d"], path: DropPath, bias: Bias = None
    ) -> tuple[Float[Array, "b n d"], Any]:
        """Returns the block's output and what the observer made of it.

        `path` holds the key and the rate of stochastic depth, a key of None switches it off. `bias` is added to the
        logits of attention.
        """
        config, (key, rate) = self.config, path
        keys = (None, None) if key is None else jax.random.split(key)
        normed = LayerNorm(config.norm_epsilon, self.dtype, name="norm1")(x)
        branch, seen = Attention(config.attention, self.dtype, name="attn")(normed, bias)
        branch = self._scaled(branch, "gamma_1")
        seen |= {"block_input": x, "branch_output": branch}
        x = x + drop_path(branch, keys[0], rate)
        normed = LayerNorm(config.norm_epsilon, self.dtype, name="norm2")(x)
        branch = self._scaled(self._mlp(x.shape[-1])(normed), "gamma_2")
        x = x + drop_path(branch, keys[1], rate)
        return x, None if self.observer is None else self.observer(Observation(**seen, block_output=x))

    def _mlp(self, width: int) -> nn.Module:
        hidden, options = int(width * self.config.mlp_ratio), (self.config.attention.kernel_init, self.dtype)
        if self.config.mlp == "swiglu":
            return GatedMlp(hidden // 2, *options, name="mlp")
        return Mlp(hidden, *options, self.config.activation, name="mlp")

    def _scaled(self, branch: Float[Array, "b n d"], name: str) -> Float[Array, "b n d"]:
        """Layer scale (Touvron et al. 2021), if the block has it."""
        if not self.config.layer_scale:
            return branch
        factors = self.param(name, nn.initializers.constant(self.config.layer_scale), branch.shape[-1:])
        return (branch * factors).astype(branch.dtype)


class Blocks(nn.Module):
    """`depth` blocks, one after the other.

    Parameters are `0`, `1`, ... or, scanned, one `stacked` with a leading layer axis; `stacking` converts. Both forms
    compute the same.
    """

    depth: int
    config: BlockConfig
    drop_path_rate: float = 0.0
    computation: Computation = Computation()

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b n d"],
        observer: Observer | None = None,
        dropout_key: PRNGKeyArray | None = None,
        bias: Bias = None,
        taps: tuple[int, ...] = (),
    ) -> BlocksOutput:
        """Returns the last block's output, the observer's results stacked over layers, and the taps.

        `bias` is added to the logits in every block. Tap number i is what block i (from 1) returned, 0 the input.
        """
        paths = drop_paths(self.drop_path_rate, self.depth, dropout_key)
        kind = self.computation.rematerialise(Block)
        make = partial(kind, self.config, jnp.dtype(self.computation.dtype), observer)
        run = self._scanned if self.computation.scan_blocks else self._unrolled
        return run(make, x, paths, bias, taps)

    def _unrolled(
        self,
        make: Callable[..., Block],
        x: Float[Array, "b n d"],
        paths: list[DropPath],
        bias: Bias,
        taps: tuple[int, ...],
    ) -> BlocksOutput:
        observed, outputs = [], {0: x}
        for layer, path in enumerate(paths):
            x, seen = make(name=str(layer))(x, path, bias)
            observed.append(seen)
            outputs[layer + 1] = x
        return x, stack_observations(observed), {tap: outputs[tap] for tap in taps}

    def _scanned(
        self,
        make: Callable[..., Block],
        x: Float[Array, "b n d"],
        paths: list[DropPath],
        bias: Bias,
        taps: tuple[int, ...],
    ) -> BlocksOutput:
        def body(module: Block, x: Float[Array, "b n d"], path: DropPath) -> tuple[Float[Array, "b n d"], Any]:
            output, seen = module(x, path, bias)
            return output, (seen, output if taps else None)

        scan = nn.scan(body, variable_axes={"params": 0}, split_rngs={"params": True}, length=self.depth)
        output, (observed, outputs) = scan(make(name=STACKED), x, stack_paths(paths))
        return output, observed, {tap: outputs[tap - 1] if tap else x for tap in taps}


def drop_paths(
    rate: float, depth: int, key: PRNGKeyArray | None, first: int = 0, total: int | None = None
) -> list[DropPath]:
    """Key and rate of stochastic depth of `depth` blocks, number `first` and on of `total`.

    The rate rises linearly from 0 to `rate` over all blocks. Without a key, or with a rate of 0, the keys are None.
    """
    rates = np.linspace(0.0, rate, total or depth)[first : first + depth]
    if key is None or rate == 0:
        return [(None, float(value)) for value in rates]
    keys = jax.random.split(key, total or depth)[first : first + depth]
    return [(keys[i], float(value)) for i, value in enumerate(rates)]


def stack_paths(paths: list[DropPath]) -> tuple[Array | None, Float[Array, "l"]]:
    """The same as arrays with a leading layer axis."""
    keys = [key for key, _ in paths if key is not None]
    return jnp.stack(keys) if keys else None, jnp.asarray([rate for _, rate in paths], jnp.float32)


def stack_observations(observed: list[Any]) -> Any:
    """What an observer returned in every layer, along a new first axis."""
    return None if observed[0] is None else jax.tree.map(lambda *leaves: jnp.stack(leaves), *observed)
