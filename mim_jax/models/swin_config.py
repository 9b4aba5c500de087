"""What defines a Swin Transformer."""

import dataclasses
from functools import partial

from mim_jax.models.attention import QKV_BIASES, AttentionConfig
from mim_jax.models.encoder import Pair
from mim_jax.models.swin_blocks import SwinBlockConfig
from mim_jax.ops.activations import ACTIVATIONS
from mim_jax.ops.patches import patch_grid
from mim_jax.ops.windows import fit_window, half_window, halved_grid

CHOICES = {
    "version": (1, 2),
    "qkv_bias": ("", *QKV_BIASES),
    "position": ("none", "learned"),
    "activation": tuple(ACTIVATIONS),
}

PER_STAGE = ("num_heads", "windows", "pretrained_windows", "shift_stages")

TABLE_DEVIATION = 0.02


@dataclasses.dataclass(frozen=True)
class SwinConfig:
    """What defines a Swin Transformer encoder. The defaults are Swin-T of version 1.

    Attributes:
        version: 1 (Liu et al. 2021), or 2 (Liu et al. 2022): norms behind the branches, cosine attention, and a
            relative position bias that a small network computes.
        image_size: height and width in pixels.
        patch_size: height and width of a patch in pixels.
        channels: channels of an image.
        width: width of a token in the first stage; every stage doubles it.
        depths: blocks in every stage.
        num_heads: attention heads in every stage; must divide its width.
        window: rows and columns of tokens of a window; one number for a square one.
        windows: sides of the square windows of every stage where these differ; () for `window` everywhere.
        mlp_ratio: width of the hidden layer of the MLP over the token width.
        qkv_bias: which of query, key and value get a bias: "all", "query_value" or "none"; "" for what the version
            has, all in 1, query and value in 2.
        pretrained_windows: side of the window that every stage was pre-trained with, to which version 2 relates its
            offsets; 0, or () for all stages, is the window that the stage has now.
        pad_windows: False cuts a window down to its map, as the original code does for classification; True never
            does, but pads the map at the bottom and the right, as for dense tasks.
        shift_stages: which stages shift the windows of their odd blocks; () for all.
        position: "none" or "learned" absolute positions.
        mask_token: whether there is a token that stands in for masked patches.
        final_norm: whether the tokens pass a last layer norm.
        norm_epsilon: epsilon of every layer norm.
        branch_norm_scale: what the norms behind the branches start with as scale (version 2); 0 makes every block
            the identity at the start.
        norm_every: one more norm behind every so many blocks of a stage (SwinV2-H and -g); 0 for none.
        activation: between the two layers of an MLP: "gelu" (exact), "quick_gelu" or "gelu_tanh".
        drop_path_rate: stochastic depth of the last block; earlier blocks have linearly less.
        kernel_init: how kernels start, a name of `initialization.KERNELS`.
        embedding_init: the same for the patch embedding.
    """

    version: int = 1
    image_size: Pair = (224, 224)
    patch_size: Pair = (4, 4)
    channels: int = 3
    width: int = 96
    depths: tuple[int, ...] = (2, 2, 6, 2)
    num_heads: tuple[int, ...] = (3, 6, 12, 24)
    window: int | Pair = 7
    windows: tuple[int, ...] = ()
    mlp_ratio: float = 4.0
    qkv_bias: str = ""
    pretrained_windows: tuple[int, ...] = ()
    pad_windows: bool = False
    shift_stages: tuple[bool, ...] = ()
    position: str = "none"
    mask_token: bool = False
    final_norm: bool = True
    norm_epsilon: float = 1e-5
    branch_norm_scale: float = 0.0
    norm_every: int = 0
    activation: str = "gelu"
    drop_path_rate: float = 0.0
    kernel_init: str = "normal"
    embedding_init: str = "torch_default"

    def __post_init__(self) -> None:
        object.__setattr__(self, "window", self.window_sides)
        patch_grid(self.image_size, self.patch_size)
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                known = ", ".join(f"'{choice}'" if isinstance(choice, str) else str(choice) for choice in choices)
                raise ValueError(f"{name} must be one of {known}, not '{getattr(self, name)}'")
        self._check_stages()
        self._check_windows()

    def _check_stages(self) -> None:
        if not self.depths or min(self.depths) < 1:
            raise ValueError(f"depths are {self.depths}, but every stage needs at least one block")
        stages = len(self.depths)
        for name in PER_STAGE:
            given = len(getattr(self, name))
            if given != stages and (given or name == "num_heads"):
                raise ValueError(f"{name} has {given} entries for {stages} stages; give one for every stage")
        for stage, (width, heads) in enumerate(zip(self.stage_widths, self.num_heads)):
            if width % heads:
                raise ValueError(f"stage {stage} has width {width}, which is not divisible by {heads} heads")

    def _check_windows(self) -> None:
        sides = (*self.window_sides, *self.windows)
        if min(sides) < 1 or min(self.pretrained_windows, default=0) < 0 or self.norm_every < 0:
            raise ValueError("a window needs at least one token a side, pretrained_windows and norm_every at least 0")
        if self.version == 1 and any(self.pretrained_windows):
            raise ValueError("pretrained_windows belong to version 2; version 1 has a table for its own window")
        if self.pad_windows:
            return
        for stage, (grid, window) in enumerate(zip(self.stage_grids, self.stage_windows)):
            if grid[0] % window[0] or grid[1] % window[1]:
                raise ValueError(
                    f"the map of stage {stage} has {grid[0]}x{grid[1]} tokens, which windows of "
                    f"{window[0]}x{window[1]} do not divide; choose another image size or window, or set pad_windows"
                )

    @property
    def grid(self) -> Pair:
        """Rows and columns of patches as they are embedded."""
        return patch_grid(self.image_size, self.patch_size)

    @property
    def prefix(self) -> int:
        """Number of prefix tokens: none."""
        return 0

    @property
    def stage_widths(self) -> tuple[int, ...]:
        """Width of a token in every stage."""
        return tuple(self.width * 2**stage for stage in range(len(self.depths)))

    @property
    def stage_strides(self) -> tuple[Pair, ...]:
        """Pixels from one token to the next in every stage."""
        rows, columns = self.patch_size
        return tuple((rows * 2**stage, columns * 2**stage) for stage in range(len(self.depths)))

    @property
    def stage_grids(self) -> tuple[Pair, ...]:
        """Rows and columns of tokens in every stage."""
        grids = [self.grid]
        for _ in self.depths[1:]:
            grids.append(halved_grid(grids[-1]))
        return tuple(grids)

    @property
    def stage_windows(self) -> tuple[Pair, ...]:
        """Rows and columns of tokens in a window of every stage, as they really are."""
        return tuple(window for window, _ in self._windows_and_shifts())

    @property
    def stage_shifts(self) -> tuple[Pair, ...]:
        """How far every stage shifts the windows of its odd blocks."""
        return tuple(shift for _, shift in self._windows_and_shifts())

    @property
    def output_width(self) -> int:
        """Width of the last tokens."""
        return self.stage_widths[-1]

    @property
    def output_stride(self) -> Pair:
        """Pixels from one of the last tokens to the next."""
        return self.stage_strides[-1]

    @property
    def window_sides(self) -> Pair:
        """Rows and columns of tokens of `window`."""
        return (self.window, self.window) if isinstance(self.window, int) else self.window

    def _windows_and_shifts(self) -> list[tuple[Pair, Pair]]:
        sides = [(side, side) for side in self.windows] or [self.window_sides] * len(self.depths)
        if self.pad_windows:
            fitted = [(window, half_window(window)) for window in sides]
        else:
            fitted = [fit_window(grid, window) for grid, window in zip(self.stage_grids, sides)]
        allowed = self.shift_stages or (True,) * len(self.depths)
        return [(window, shift if shifts else (0, 0)) for (window, shift), shifts in zip(fitted, allowed)]

    def stage_blocks(self, stage: int) -> tuple[SwinBlockConfig, ...]:
        """What defines the blocks of a stage; every second one shifts its windows."""
        shift = self.stage_shifts[stage]
        block = SwinBlockConfig(
            self.version,
            self._attention(stage),
            self.stage_grids[stage],
            self.stage_windows[stage],
            (0, 0),
            self.stage_strides[stage],
            self.mlp_ratio,
            self.norm_epsilon,
            self.branch_norm_scale,
            extra_norm=False,
            activation=self.activation,
        )
        return tuple(
            dataclasses.replace(
                block,
                shift=shift if layer % 2 else (0, 0),
                extra_norm=self.norm_every > 0 and (layer + 1) % self.norm_every == 0,
            )
            for layer in range(self.depths[stage])
        )

    def _attention(self, stage: int) -> AttentionConfig:
        heads, window = self.num_heads[stage], self.stage_windows[stage]
        attention = partial(
            AttentionConfig, heads, bias_window=window, norm_epsilon=self.norm_epsilon, kernel_init=self.kernel_init
        )
        if self.version == 1:
            return attention(qkv_bias=self.qkv_bias or "all", bias_deviation=TABLE_DEVIATION)
        side = self.pretrained_windows[stage] if self.pretrained_windows else 0
        reference = (side, side) if side else window
        qkv_bias = self.qkv_bias or "query_value"
        return attention(qkv_bias=qkv_bias, cosine=True, reference_window=reference)
