"""What a Swin Transformer is made of: blocks of attention within windows, and the merging between stages."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mim_jax.models.attention import Attention, AttentionConfig
from mim_jax.models.blocks import BlocksOutput, Computation, stack_observations, stack_paths
from mim_jax.models.layers import Dense, DropPath, Dtype, LayerNorm, Mlp, drop_path
from mim_jax.models.stacking import STACKED
from mim_jax.ops.attention import Observation, Observer, Windows
from mim_jax.ops.patches import rows_and_columns
from mim_jax.ops.windows import (
    crop_map,
    cyclic_shift,
    join_windows,
    merge_neighbours,
    pad_map,
    partition_windows,
    shift_mask,
)

Pair = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class SwinBlockConfig:
    """What defines a block.

    Attributes:
        version: 1 has the norms before its branches, 2 behind them.
        attention: its attention layer.
        grid: rows and columns of tokens of the map.
        window: rows and columns of tokens of a window; the map is padded to a multiple.
        shift: how far the windows are shifted, in tokens.
        stride: pixels from one token to the next.
        mlp_ratio: width of the hidden layer of the MLP over the token width.
        norm_epsilon: epsilon of the norms.
        branch_norm_scale: what the norms behind the branches start with as scale (version 2).
        extra_norm: whether the tokens pass one more norm at the end.
        activation: between the layers of the MLP, a name of `ops.activations.ACTIVATIONS`.
    """

    version: int
    attention: AttentionConfig
    grid: Pair
    window: Pair
    shift: Pair
    stride: Pair
    mlp_ratio: float
    norm_epsilon: float
    branch_norm_scale: float
    extra_norm: bool
    activation: str


Tokenwise = Callable[[Float[Array, "b n d"]], Float[Array, "b n d"]]


class SwinBlock(nn.Module):
    """Attention within windows and an MLP, each on a residual branch (Liu et al. 2021; version 2 Liu et al. 2022)."""

    config: SwinBlockConfig
    dtype: Dtype = jnp.float32
    observer: Observer | None = None

    @nn.compact
    def __call__(
        self, x: Float[Array, "b n d"], path: DropPath, shifted: Int[Array, ""] | None = None
    ) -> tuple[Float[Array, "b n d"], Any]:
        """Returns the block's output and what the observer made of it.

        `path` holds the key and the rate of stochastic depth, a key of None switches it off. `shifted`, in a scan
        over blocks, is 1 or 0: whether this one shifts its windows by `config.shift` or not at all.
        """
        config, (key, rate) = self.config, path
        keys = (None, None) if key is None else jax.random.split(key)
        before, after = self._norm("norm1")
        branch, seen = self._attend(before(x), shifted)
        branch = after(branch)
        seen |= {"block_input": x, "branch_output": branch, "windows": self._windows(shifted)}
        x = x + drop_path(branch, keys[0], rate)
        before, after = self._norm("norm2")
        hidden = int(x.shape[-1] * config.mlp_ratio)
        mlp = Mlp(hidden, config.attention.kernel_init, self.dtype, config.activation, name="mlp")
        branch = after(mlp(before(x)))
        x = x + drop_path(branch, keys[1], rate)
        if config.extra_norm:
            x = LayerNorm(config.norm_epsilon, self.dtype, name="extra_norm")(x)
        return x, None if self.observer is None else self.observer(Observation(**seen, block_output=x))

    def _norm(self, name: str) -> tuple[Tokenwise, Tokenwise]:
        """What comes before a branch, and behind it."""
        config = self.config
        if config.version == 1:
            return LayerNorm(config.norm_epsilon, self.dtype, name=name), _unchanged
        return _unchanged, LayerNorm(config.norm_epsilon, self.dtype, config.branch_norm_scale, name=name)

    def _attend(
        self, x: Float[Array, "b n d"], shifted: Int[Array, ""] | None
    ) -> tuple[Float[Array, "b n d"], dict[str, Any]]:
        """Attention within windows; padding is attended to like any token."""
        config = self.config
        padded = pad_map(x.reshape(x.shape[0], *config.grid, -1), config.window)
        windows = partition_windows(cyclic_shift(padded, config.shift, shifted), config.window)
        attend = Attention(config.attention, self.dtype, name="attn")
        out, seen = attend(windows, self._mask(rows_and_columns(padded), shifted))
        out = join_windows(out, rows_and_columns(padded), config.window)
        out = cyclic_shift(out, (-config.shift[0], -config.shift[1]), shifted)
        return crop_map(out, config.grid).reshape(x.shape), seen

    def _mask(self, grid: Pair, shifted: Int[Array, ""] | None) -> Float[Array, "w 1 n n"] | None:
        if not any(self.config.shift):
            return None
        mask = shift_mask(grid, self.config.window, self.config.shift)
        return mask if shifted is None else mask * shifted

    def _windows(self, shifted: Int[Array, ""] | None) -> Windows:
        config = self.config
        rows, columns = (-(-size // side) for size, side in zip(config.grid, config.window))
        down, right = config.shift if shifted is None else (step * shifted for step in config.shift)
        return Windows((rows, columns), config.window, (down, right), config.stride)


def _unchanged(x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
    return x


class SwinBlocks(nn.Module):
    """The blocks of a stage, one after the other.

    Parameters are `0`, `1`, ... or, scanned, one `stacked` with a leading layer axis. Blocks that are not all alike,
    but for their shift, are never scanned.
    """

    blocks: tuple[SwinBlockConfig, ...]
    computation: Computation = Computation()

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b n d"],
        paths: list[DropPath],
        observer: Observer | None = None,
        taps: tuple[int, ...] = (),
    ) -> BlocksOutput:
        """Returns the last block's output, the observer's results stacked over blocks, and the taps, from 1."""
        kind = self.computation.rematerialise(SwinBlock)
        make = partial(kind, dtype=jnp.dtype(self.computation.dtype), observer=observer)
        alike = len({dataclasses.replace(config, shift=(0, 0)) for config in self.blocks}) == 1
        run = self._scanned if self.computation.scan_blocks and alike else self._unrolled
        return run(make, x, paths, taps)

    def _unrolled(
        self,
        make: Callable[..., SwinBlock],
        x: Float[Array, "b n d"],
        paths: list[DropPath],
        taps: tuple[int, ...],
    ) -> BlocksOutput:
        observed, outputs = [], {}
        for layer, (config, path) in enumerate(zip(self.blocks, paths)):
            x, seen = make(config, name=str(layer))(x, path)
            observed.append(seen)
            outputs[layer + 1] = x
        return x, stack_observations(observed), {tap: outputs[tap] for tap in taps}

    def _scanned(
        self,
        make: Callable[..., SwinBlock],
        x: Float[Array, "b n d"],
        paths: list[DropPath],
        taps: tuple[int, ...],
    ) -> BlocksOutput:
        def body(
            module: SwinBlock, x: Float[Array, "b n d"], layer: tuple[DropPath, Int[Array, ""] | None]
        ) -> tuple[Float[Array, "b n d"], Any]:
            output, seen = module(x, *layer)
            return output, (seen, output if taps else None)

        # Whether a block is shifted is data in a scan; where none is, nothing of that is computed.
        flags = [any(config.shift) for config in self.blocks]
        layers = stack_paths(paths), jnp.asarray(flags, jnp.int32) if any(flags) else None
        config = self.blocks[flags.index(True) if any(flags) else 0]
        scan = nn.scan(body, variable_axes={"params": 0}, split_rngs={"params": True}, length=len(self.blocks))
        output, (observed, outputs) = scan(make(config, name=STACKED), x, layers)
        return output, observed, {tap: outputs[tap - 1] for tap in taps}


class Merging(nn.Module):
    """Makes one token of twice the width of every 2x2; version 1 normalises before, version 2 behind."""

    grid: Pair
    version: int
    norm_epsilon: float
    kernel_init: str
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b m 2*d"]:
        width = x.shape[-1]
        x = merge_neighbours(x.reshape(x.shape[0], *self.grid, width)).reshape(x.shape[0], -1, 4 * width)
        norm = LayerNorm(self.norm_epsilon, self.dtype, name="norm")
        initial = self.kernel_init
        reduction = Dense((2 * width,), use_bias=False, kernel_init=initial, dtype=self.dtype, name="reduction")
        return reduction(norm(x)) if self.version == 1 else norm(reduction(x))


class Stage(nn.Module):
    """Blocks at one resolution, and the merging that leads to the next, unless it is the last."""

    blocks: tuple[SwinBlockConfig, ...]
    merge: bool
    computation: Computation = Computation()

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b n d"],
        paths: list[DropPath],
        observer: Observer | None = None,
        taps: tuple[int, ...] = (),
    ) -> tuple[Float[Array, "b m e"], Any, dict[int, Float[Array, "b n d"]]]:
        """Like `SwinBlocks`; the taps are taken before the merging."""
        x, observed, outputs = SwinBlocks(self.blocks, self.computation, name="blocks")(x, paths, observer, taps)
        if self.merge:
            config, dtype = self.blocks[0], jnp.dtype(self.computation.dtype)
            arguments = config.grid, config.version, config.norm_epsilon, config.attention.kernel_init, dtype
            x = Merging(*arguments, name="merging")(x)
        return x, observed, outputs
