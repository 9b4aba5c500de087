"""Properties of the LUT objective."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AbstractMesh, PartitionSpec

from mim_jax.errors import InputError
from mim_jax.models.blocks import Computation
from mim_jax.models.stacking import stack_blocks, unstack_blocks
from mim_jax.models.vit import VisionTransformerConfig
from mim_jax.ops.masking import random_mask
from mim_jax.pretraining.heads import HeadConfig, train_head
from mim_jax.pretraining.lut import LUT_MODELS, Lut, cosine_distance, lut_preset, teacher_rate
from mim_jax.pretraining.mae import DecoderConfig, MaskedAutoencoder
from mim_jax.pretraining.objective import Objective
from mim_jax.training.sharding import AXES, state_shardings
from mim_jax.training.state import initial_state, make_train_step
from tests.pretraining.test_mae import program_flops

CONFIG = VisionTransformerConfig((8, 16), (4, 4), 3, width=16, depth=1, num_heads=2)
HEAD = HeadConfig(hidden=12)


def objective(ratio=0.75, computation=Computation(), config=CONFIG, **options):
    mae = MaskedAutoencoder(config, DecoderConfig(8, 1, 2), ratio, True, computation=computation)
    return Lut(mae, **({"projector": HEAD, "predictor": HEAD} | options))


@pytest.fixture(scope="module")
def parameters():
    return jax.jit(objective().init)(jax.random.key(0))


@pytest.fixture(scope="module")
def memory(parameters):
    """A memory in which teacher and running statistics are not the student's."""
    fresh = objective().init_memory(parameters)
    return jax.tree.map(lambda leaf: leaf + 0.1 * jnp.abs(jax.random.normal(jax.random.key(3), leaf.shape)), fresh)


@pytest.fixture(scope="module")
def batch():
    image = jax.random.normal(jax.random.key(1), (4, 2, 8, 16, 3))
    return objective(independent_masks=True).draw({"image": image}, jax.random.key(2))


@pytest.fixture(scope="module")
def gradients(parameters, batch, memory):
    return jax.jit(jax.grad(objective().loss, has_aux=True))(parameters, batch, None, memory)


def largest_difference(one, other):
    return max(jax.tree.leaves(jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), one, other)))


def sizes(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def test_it_is_an_objective():
    assert isinstance(objective(), Objective)


@pytest.mark.parametrize(
    "name, count",
    [("small", 53_886_080), ("medium", 72_707_840), ("base", 124_507_136), ("large", 346_335_488)],
)
def test_presets_have_the_published_sizes(name, count):
    lut = lut_preset(f"lut_vit_{name}_patch16", momentum=0.99, normalise_target=True)
    assert sizes(jax.eval_shape(lut.init, jax.random.key(0))) == count
    assert (lut.momentum, lut.mae.normalise_target) == (0.99, True)


def test_unknown_preset_is_refused_with_the_nearest():
    with pytest.raises(InputError, match="did you mean 'lut_vit_base_patch16'"):
        lut_preset("lut_vit_base_patch14")
    assert len(LUT_MODELS) == 4


def test_views_show_disjoint_patches(batch):
    first, second = random_mask(batch["noise"], 0.5).keep, objective(0.5).second_visible(batch)
    both = jnp.sort(jnp.concatenate([first, second], axis=1), axis=1)
    assert jnp.array_equal(both, jnp.broadcast_to(jnp.arange(8), (4, 8)))


def test_ratio_that_leaves_no_disjoint_patches_is_refused():
    with pytest.raises(ValueError, match="ratio 0.4 leaves 4 of 7 patches .* cannot be disjoint; raise it to 0.5"):
        objective(0.4, config=dataclasses.replace(CONFIG, image_size=(4, 28)))
    assert objective(0.4, independent_masks=True).mae.kept == 4
    assert objective(0.0, one_directional=True).mae.kept == 8


def test_draw_keeps_what_the_caller_gave(batch):
    lut, key = objective(independent_masks=True), jax.random.key(9)
    assert lut.draw(batch, key) is batch
    assert "noise2" not in objective().draw({"image": batch["image"]}, key)
    given = {"image": batch["image"], "noise": batch["noise"]}
    assert lut.draw(given, key)["noise"] is batch["noise"]
    assert not jnp.array_equal(lut.draw(given, key)["noise2"], batch["noise"])
    assert objective().draw({"image": batch["image"][:, 0]}, key)["noise"].shape == (4, 8)


def test_independent_masks_follow_the_second_noise(batch):
    expected = jnp.argsort(batch["noise2"], axis=1)[:, :2]
    assert jnp.array_equal(objective(independent_masks=True).second_visible(batch), expected)


def test_teacher_starts_as_a_copy_of_the_student(parameters):
    memory = objective().init_memory(parameters)
    teacher = memory["teacher"]
    assert largest_difference(teacher, {"parameters": parameters, "statistics": memory["statistics"]}) == 0
    copied = zip(jax.tree.leaves(teacher["parameters"]), jax.tree.leaves(parameters))
    assert all(one is not other for one, other in copied)


def test_teacher_gets_no_gradient(parameters, batch, memory):
    lut = objective()

    def loss(parameters, teacher):
        return lut.loss(parameters, batch, None, memory | {"teacher": teacher})[0]

    gradient = jax.jit(jax.grad(loss, argnums=1))(parameters, memory["teacher"])
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(gradient))


def test_teacher_that_is_the_student_itself_gets_none_either(parameters, batch):
    lut = objective(projector=HeadConfig(0), predictor=HeadConfig(0), reconstruction_weight=0.0)
    apart = lambda tree: lut.loss(tree, batch, None, lut.init_memory(parameters))[0]
    alone, expected = jax.jit(lambda tree: (jax.grad(lut.loss, has_aux=True)(tree, batch)[0], jax.grad(apart)(tree)))(
        parameters
    )
    assert largest_difference(alone, expected) < 1e-6


def test_fixed_positions_get_no_gradient_and_all_else_does(gradients):
    tree = gradients[0]
    for part in ("encoder", "decoder"):
        assert not np.any(tree[part]["pos_embed"]["table"])
    assert np.any(tree["decoder"]["mask_token"]) and np.any(tree["encoder"]["cls_token"])
    assert all(np.any(leaf) for head in ("projector", "predictor") for leaf in jax.tree.leaves(tree[head]))


def test_loss_is_the_weighted_sum(parameters, batch, memory, gradients):
    metrics = gradients[1].metrics
    expected = metrics["reconstruction_loss"] + 0.25 * metrics["contextualization_loss"]
    assert float(metrics["loss"]) == pytest.approx(float(expected), rel=1e-6)
    mae, _ = jax.jit(objective().mae.loss)(parameters, batch | {"image": batch["image"][:, 0]})
    assert float(metrics["reconstruction_loss"]) == pytest.approx(float(mae), rel=1e-6)


def test_one_direction_compares_view_1_with_the_teachers_view_2(parameters, batch, memory):
    lut = objective(one_directional=True)

    @jax.jit
    def everything(parameters, batch, memory):
        student = objective().student(parameters, batch, memory["statistics"])
        mean = student.reconstruction.latent[:, 1:].mean(axis=1)
        once = train_head(lut.heads["projector"], parameters["projector"], memory["statistics"]["projector"], mean)[1]
        teacher = objective().teach(memory["teacher"], batch["image"])
        distance = cosine_distance(student.vectors[:, 0], teacher[:, 1]).mean()
        return distance, once, lut.loss(parameters, batch, None, memory)[1]

    distance, once, outcome = everything(parameters, batch, memory)
    assert float(outcome.metrics["contextualization_loss"]) == pytest.approx(float(distance), rel=1e-5)
    assert largest_difference(outcome.memory["statistics"]["projector"], once) < 1e-6


def test_stochastic_depth_needs_a_key(parameters, batch):
    lut = objective(config=dataclasses.replace(CONFIG, depth=2, drop_path_rate=0.5))
    block = parameters["encoder"]["blocks"]["0"]
    deeper = parameters | {"encoder": parameters["encoder"] | {"blocks": {"0": block, "1": block}}}
    losses = jax.jit(lambda tree, key: [lut.loss(tree, batch, k)[0] for k in (None, key)])
    without, dropped = losses(deeper, jax.random.key(0))
    assert float(without) != pytest.approx(float(dropped), rel=1e-4)


def test_scanned_blocks_compute_the_same(parameters, batch, memory, gradients):
    lut = objective(computation=Computation(scan_blocks=True))
    grads, outcome = jax.jit(jax.grad(lut.loss, has_aux=True))(
        stack_blocks(parameters), batch, None, stack_blocks(memory)
    )
    assert largest_difference(unstack_blocks(grads), gradients[0]) < 1e-6
    assert largest_difference(unstack_blocks(outcome.memory), gradients[1].memory) < 1e-6
    assert jax.tree.structure(stack_blocks(memory)) == jax.tree.structure(lut.init_memory(stack_blocks(parameters)))


def test_bfloat16_keeps_float32_statistics_and_nearly_the_loss(parameters, batch, memory, gradients):
    lut = objective(computation=Computation(dtype="bfloat16"))
    loss, outcome = jax.jit(lut.loss)(parameters, batch, None, memory)
    assert {leaf.dtype for leaf in jax.tree.leaves(outcome)} == {jnp.dtype("float32")}
    assert float(loss) == pytest.approx(float(gradients[1].metrics["loss"]), rel=0.02)


def test_teacher_follows_parameters_and_statistics(parameters, memory):
    lut = objective()
    moved = lut.remember(memory, parameters, 0.5)
    student = {"parameters": parameters, "statistics": memory["statistics"]}
    follow = lambda teacher, student: 0.998 * teacher + 0.002 * student
    assert largest_difference(moved["teacher"], jax.tree.map(follow, memory["teacher"], student)) < 1e-6
    assert moved["statistics"] is memory["statistics"]
    assert largest_difference(lut.remember(memory, parameters, 1.0)["teacher"], memory["teacher"]) == 0


def test_teacher_rate_keeps_its_digits_at_the_end():
    progress = 1 - 2.0**-12
    exact = 0.004 * np.sin(np.pi / 2 * 2.0**-12) ** 2
    assert float(teacher_rate(0.996, progress)) == pytest.approx(exact, rel=1e-6)


@pytest.fixture(scope="module")
def state():
    return jax.jit(lambda: initial_state(objective(), optax.sgd(0.1), 0))()


def test_accumulation_updates_the_statistics_by_every_micro_batch(state, batch):
    schedule = lambda step: 0.1
    step = make_train_step(
        objective(), optax.sgd(0.1), lambda batch: batch, schedule, seed=0, total_steps=4, accumulation=2
    )
    new, metrics = jax.jit(step)(state, batch)
    loss, memory = jax.jit(objective().loss), state.memory
    losses = []
    for first in (0, 1):
        value, outcome = loss(state.parameters, jax.tree.map(lambda x, i=first: x[i::2], batch), None, memory)
        memory = outcome.memory
        losses.append(float(value))
    assert largest_difference(new.memory["statistics"], memory["statistics"]) < 1e-6
    assert float(metrics["loss"]) == pytest.approx(np.mean(losses), rel=1e-5)
    # The update is the second of eight micro-steps.
    teacher = objective().remember(memory, new.parameters, 1 / 8)["teacher"]
    assert largest_difference(new.memory["teacher"], teacher) < 1e-6


def test_training_moves_every_running_statistic_and_the_teacher(state, batch):
    step = jax.jit(make_train_step(objective(), optax.sgd(0.1), lambda batch: batch, lambda step: 0.1, seed=0))
    new, _ = step(state, batch)
    assert jax.tree.structure(new) == jax.tree.structure(state)
    teachers = zip(jax.tree.leaves(new.memory["teacher"]["statistics"]), jax.tree.leaves(new.memory["statistics"]))
    for teacher, student in teachers:
        start = jnp.round(teacher)  # 0 or 1
        np.testing.assert_allclose(teacher, start + 0.004 * (student - start), atol=1e-6)


@pytest.mark.parametrize("view", ["pair", "single"])
def test_panel_is_the_autoencoders_of_view_1(parameters, batch, view):
    first = batch | {"image": batch["image"][:, 0]}
    panel = objective().panel(parameters, batch if view == "pair" else first)
    assert jnp.array_equal(panel, objective().mae.panel(parameters, first))
    assert panel.shape == (4, len(objective().panel_titles), 8, 16, 3)


@pytest.mark.parametrize("options", [{}, {"one_directional": True}, {"predictor": HeadConfig(3, 5, "layer", "gelu")}])
def test_flops_are_those_of_the_program(options):
    lut = objective(**options)
    shapes = jax.eval_shape(lut.init, jax.random.key(0))
    inputs = {"image": jnp.zeros((2, 2, 8, 16, 3)), "noise": jnp.zeros((2, 8))}
    assert program_flops(lut.loss, shapes, inputs) == 2 * (lut.student_flops() + lut.teacher_flops())
    assert program_flops(jax.grad(lut.loss, has_aux=True), shapes, inputs) == 2 * lut.flops_per_image()


def test_flops_are_the_published_ones_less_removed_patches_and_the_gradient_of_images():
    lut = lut_preset("lut_vit_base_patch16")
    config, kept = lut.encoder_config, lut.mae.kept
    embedding = 2 * 2 * config.patch_values * config.width
    removed = embedding * (config.patches - kept)
    assert (lut.student_flops() + removed) / 1e9 == pytest.approx(28.4, abs=0.06)
    assert lut.teacher_flops() / 1e9 == pytest.approx(70.3, abs=0.06)
    assert (lut.flops_per_image() + 3 * removed + embedding * kept) / 1e9 == pytest.approx(155.6, abs=0.06)


def test_memory_grows_by_the_second_view():
    both, one = (objective(one_directional=one).activation_bytes_per_image() for one in (False, True))
    assert both > one == objective().mae.activation_bytes_per_image()


def test_heads_lie_on_the_mesh_in_student_and_teacher(parameters):
    mesh = AbstractMesh((1, 2, 2), AXES)
    state = {"parameters": parameters, "memory": objective().init_memory(parameters)}
    shardings = state_shardings(state, mesh)
    for tree in (shardings["parameters"], shardings["memory"]["teacher"]["parameters"]):
        for head in ("projector", "predictor"):
            assert tree[head]["layer0"]["kernel"].spec == PartitionSpec("fsdp", "tensor")
            assert tree[head]["layer1"]["kernel"].spec == PartitionSpec("tensor", "fsdp")


def test_distance_of_a_vector_of_zeros_has_a_finite_gradient():
    zero, one = jnp.zeros((2, 3)), jnp.ones((2, 3))
    assert np.isfinite(jax.grad(lambda x: cosine_distance(x, one).sum())(zero)).all()
    np.testing.assert_allclose(cosine_distance(one, jnp.stack([3 * one[0], -one[1]])), [0, 4], atol=1e-6)
