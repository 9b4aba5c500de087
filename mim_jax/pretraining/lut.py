"""LUT (Kim et al. 2024): a masked autoencoder whose visible tokens also learn the context of another view."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, PRNGKeyArray

from mim_jax.models.applying import encode
from mim_jax.models.flops import encoder_flops, encoder_stages, patch_embedding_flops, saved_bytes
from mim_jax.models.presets import encoder_config, preset
from mim_jax.models.vit import VisionTransformer, VisionTransformerConfig
from mim_jax.ops.masking import random_mask
from mim_jax.pretraining.heads import HeadConfig, ProjectionHead, apply_head, initial_head, train_head
from mim_jax.pretraining.mae import MaskedAutoencoder, Reconstruction
from mim_jax.pretraining.objective import Batch, Memory, Outcome, Parameters

LUT_MODELS: dict[str, str] = {
    "lut_vit_small_patch16": "vit_small_patch16",
    "lut_vit_medium_patch16": "vit_medium_patch16",
    "lut_vit_base_patch16": "vit_base_patch16",
    "lut_vit_large_patch16": "vit_large_patch16",
}
"""LUT model name, as in the original code, to its encoder; the decoder is MAE's."""


class Student(NamedTuple):
    """Everything that a forward pass of the student gives.

    Attributes:
        reconstruction: what the autoencoder makes of view 1.
        vectors: the predictor's output for every view, `[b, v, d]`.
        statistics: running statistics of the heads after all views.
    """

    reconstruction: Reconstruction
    vectors: Float[Array, "b v d"]
    statistics: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Lut:
    """The LUT objective: MAE on view 1, and agreement of both masked views with a teacher that sees the other whole.

    The memory is `{"statistics": running statistics of the heads, "teacher": {"parameters", "statistics"}}`. The
    teacher is an average of the student, its running statistics too. Views go through the student one by one.

    Attributes:
        mae: the autoencoder, with encoder, mask ratio and computation.
        projector: the head that student and teacher share.
        predictor: the head behind it, of the student alone.
        reconstruction_weight: weight of MAE's loss.
        contextualization_weight: weight of the agreement with the teacher.
        momentum: the teacher's momentum at the start; it rises to 1 by half a cosine.
        one_directional: only view 1 is compared, with the teacher's view 2 (the paper's figure); the student never sees
            view 2.
        independent_masks: view 2 draws its own visible patches; else they are disjoint from those of view 1.
    """

    mae: MaskedAutoencoder
    projector: HeadConfig = HeadConfig()
    predictor: HeadConfig = HeadConfig()
    reconstruction_weight: float = 1.0
    contextualization_weight: float = 0.25
    momentum: float = 0.996
    one_directional: bool = False
    independent_masks: bool = False

    def __post_init__(self) -> None:
        kept, patches = self.mae.kept, self.encoder_config.patches
        if 2 * kept > patches and not (self.independent_masks or self.one_directional):
            raise ValueError(
                f"mask ratio {self.mae.mask_ratio} leaves {kept} of {patches} patches visible in each of two views, "
                f"which cannot be disjoint; raise it to 0.5 or more, or set independent_masks"
            )

    @property
    def encoder(self) -> VisionTransformer:
        """The encoder's module."""
        return self.mae.encoder

    @property
    def encoder_config(self) -> VisionTransformerConfig:
        """The encoder's configuration."""
        return self.mae.vit_config

    @property
    def heads(self) -> dict[str, ProjectionHead]:
        """The modules of projector and predictor."""
        return {name: ProjectionHead(getattr(self, name)) for name in ("projector", "predictor")}

    @property
    def student_views(self) -> int:
        """Number of views that the student sees."""
        return 1 if self.one_directional else 2

    def init(self, key: PRNGKeyArray) -> Parameters:
        """Fresh parameters: those of the autoencoder, `projector` and `predictor`, in per-block form."""
        key, *keys = jax.random.split(key, 3)
        width = self.encoder_config.output_width
        heads = {name: initial_head(head, width, k) for (name, head), k in zip(self.heads.items(), keys)}
        return self.mae.init(key) | heads

    def init_memory(self, parameters: Parameters) -> Memory:
        """Fresh running statistics, and a teacher that equals the student."""
        statistics = {name: head.config.initial_statistics() for name, head in self.heads.items()}
        copy = jax.tree.map(jnp.copy, {"parameters": parameters, "statistics": statistics})
        return {"statistics": statistics, "teacher": copy}

    def draw(self, batch: Batch, key: PRNGKeyArray) -> Batch:
        """Adds the `noise` `[b, n]` that decides both masks, and `noise2` if view 2 draws its own."""
        first, second = jax.random.split(key)
        batch = self.mae.draw(batch, first)
        if not self.independent_masks or "noise2" in batch:
            return batch
        return batch | {"noise2": self.mae.noise(second, batch["image"].shape[0])}

    def loss(
        self, parameters: Parameters, batch: Batch, key: PRNGKeyArray | None = None, memory: Memory | None = None
    ) -> tuple[Float[Array, ""], Outcome]:
        """Weighted sum of MAE's loss on view 1 and the mean distance 2 - 2 cos to the teacher's other view.

        `batch["image"]` is `[b, 2, h, w, c]`. Without a memory it is the one before the first update.
        """
        memory = memory or self.init_memory(parameters)
        student = self.student(parameters, batch, memory["statistics"], key)
        images = batch["image"][:, 1:] if self.one_directional else batch["image"]
        others = self.teach(memory["teacher"], images)[:, ::-1]
        reconstruction = self.mae.reconstruction_error(student.reconstruction, batch["image"][:, 0])
        contextualization = cosine_distance(student.vectors, others).mean()
        loss = self.reconstruction_weight * reconstruction + self.contextualization_weight * contextualization
        metrics = {"loss": loss, "reconstruction_loss": reconstruction, "contextualization_loss": contextualization}
        return loss, Outcome(metrics, memory | {"statistics": student.statistics})

    def student(
        self, parameters: Parameters, batch: Batch, statistics: dict[str, Any], key: PRNGKeyArray | None = None
    ) -> Student:
        """Encodes what is visible of each view, reconstructs view 1, sends the mean tokens through both heads.

        The running statistics are updated once per view, by view 1 first.
        """
        images, keys = batch["image"], (None, None) if key is None else jax.random.split(key)
        reconstruction = self.mae.reconstruct(parameters, batch | {"image": images[:, 0]}, keys[0])
        latents = [reconstruction.latent[:, self.encoder_config.prefix :]]
        if not self.one_directional:
            keep = self.second_visible(batch)
            second = encode(self.encoder, parameters["encoder"], images[:, 1], keep=keep, dropout_key=keys[1])
            latents.append(second.patches)
        vectors = []
        for latent in latents:
            vector, statistics = self._through_heads(parameters, statistics, latent.astype(jnp.float32).mean(axis=1))
            vectors.append(vector)
        return Student(reconstruction, jnp.stack(vectors, axis=1), statistics)

    def second_visible(self, batch: Batch) -> Int[Array, "b m"]:
        """The patches of view 2 that the student sees: those whose noise comes next to view 1's."""
        if self.independent_masks:
            return random_mask(batch["noise2"], self.mae.mask_ratio).keep
        return jnp.argsort(batch["noise"], axis=1)[:, self.mae.kept : 2 * self.mae.kept]

    def _through_heads(
        self, parameters: Parameters, statistics: dict[str, Any], x: Float[Array, "b d"]
    ) -> tuple[Float[Array, "b d"], dict[str, Any]]:
        after = {}
        for name, head in self.heads.items():
            x, after[name] = train_head(head, parameters[name], statistics[name], x)
        return x, after

    def teach(self, teacher: Memory, images: Float[Array, "b v h w c"]) -> Float[Array, "b v d"]:
        """The projector's output of a teacher `{"parameters", "statistics"}` on all patches of every view.

        It is in evaluation mode and gets no gradient.
        """
        parameters, statistics = jax.lax.stop_gradient((teacher["parameters"], teacher["statistics"]))
        views = images.reshape(-1, *images.shape[2:])
        mean = encode(self.encoder, parameters["encoder"], views).patches.astype(jnp.float32).mean(axis=1)
        name = "projector"
        return apply_head(self.heads[name], parameters[name], statistics[name], mean).reshape(*images.shape[:2], -1)

    def remember(self, memory: Memory, parameters: Parameters, progress: ArrayLike) -> Memory:
        """Moves the teacher, parameters and running statistics, towards the student."""
        student = {"parameters": parameters, "statistics": memory["statistics"]}
        rate = teacher_rate(self.momentum, progress)
        follow = lambda teacher, student: teacher + rate * (student - teacher)
        return memory | {"teacher": jax.tree.map(follow, memory["teacher"], student)}

    @property
    def panel_titles(self) -> tuple[str, ...]:
        """Titles of the columns of `panel`."""
        return self.mae.panel_titles

    def panel(self, parameters: Parameters, batch: Batch) -> Float[Array, "b t h w c"]:
        """The autoencoder's panel of view 1, or of single images `[b, h, w, c]`."""
        images = batch["image"]
        return self.mae.panel(parameters, batch | {"image": images[:, 0] if images.ndim == 5 else images})

    def flops_per_image(self) -> int:
        """FLOPs of a training step per pair of views: three forward passes of the student, one of the teacher.

        The images need no gradient, so that embedding a patch costs two.
        """
        embedding = self.student_views * patch_embedding_flops(self.encoder_config, self.mae.kept)
        return 3 * self.student_flops() - embedding + self.teacher_flops()

    def student_flops(self) -> int:
        """FLOPs of the student's forward pass per pair of views, counted on visible tokens only."""
        width, views = self.encoder_config.output_width, self.student_views
        heads = self.projector.flops(width) + self.predictor.flops(width)
        second = encoder_flops(self.encoder_config, self.mae.kept)
        return self.mae.forward_flops() + (views - 1) * second + views * heads

    def teacher_flops(self) -> int:
        """FLOPs of the teacher's forward pass per pair of views."""
        view = encoder_flops(self.encoder_config) + self.projector.flops(self.encoder_config.output_width)
        return self.student_views * view

    def activation_bytes_per_image(self) -> int:
        """Estimate of the bytes that the backward pass needs saved per pair of views; the heads' are left out."""
        second = saved_bytes(encoder_stages(self.encoder_config, self.mae.kept), self.mae.computation)
        return self.mae.activation_bytes_per_image() + (self.student_views - 1) * second


def cosine_distance(one: Float[Array, "*b d"], other: Float[Array, "*b d"]) -> Float[Array, "*b"]:
    """2 - 2 cos of the angle between vectors, from 0 to 4."""
    return 2 - 2 * (_unit(one) * _unit(other)).sum(axis=-1)


def _unit(x: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
    # The bound is on the square: the root of zero has no derivative.
    return x * jax.lax.rsqrt(jnp.maximum(jnp.square(x).sum(axis=-1, keepdims=True), 1e-24))


def teacher_rate(momentum: float, progress: ArrayLike) -> Float[Array, ""]:
    """1 - momentum of the teacher: from `1 - momentum` at progress 0 to 0 at progress 1 by half a cosine.

    As a squared sine of what remains it keeps its digits where the momentum itself would round to 1.
    """
    return (1 - momentum) * jnp.sin(jnp.pi / 2 * (1 - jnp.asarray(progress, jnp.float32))) ** 2


def lut_preset(name: str, **options: Any) -> Lut:
    """A model of the original code by its name, such as "lut_vit_base_patch16".

    `options` are other fields of `Lut`, or of its `MaskedAutoencoder`. Raises InputError for an unknown name, with the
    nearest.
    """
    config = encoder_config(preset(LUT_MODELS, name, "LUT model"))
    own = {field.name for field in dataclasses.fields(Lut)}
    autoencoder = {key: value for key, value in options.items() if key not in own}
    mine = {key: value for key, value in options.items() if key in own}
    return Lut(MaskedAutoencoder(config, **autoencoder), **mine)
