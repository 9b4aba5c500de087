"""LUT against the original PyTorch code."""

import functools
import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mim_jax.models.blocks import Computation
from mim_jax.models.stacking import stack_blocks, unstack_blocks
from mim_jax.models.vit import VisionTransformerConfig
from mim_jax.ops.positions import position_table
from mim_jax.pretraining.heads import HeadConfig
from mim_jax.pretraining.lut import Lut, teacher_rate
from mim_jax.pretraining.mae import DecoderConfig, MaskedAutoencoder
from tests import golden_cases as golden
from tests.sine_fill import sine, sine_images, sine_tensors

TOLERANCE = 1e-5
RUNNING = {"running_mean": "mean", "running_var": "variance"}
NETWORKS = "model", "model_ema"


def objective(model, mask_ratio, computation=Computation()):
    sizes = model["embed_dim"], model["depth"], model["num_heads"]
    encoder = VisionTransformerConfig((model["img_size"],) * 2, (model["patch_size"],) * 2, 3, *sizes)
    decoder = DecoderConfig(model["decoder_embed_dim"], model["decoder_depth"], model["decoder_num_heads"])
    mae = MaskedAutoencoder(encoder, decoder, mask_ratio, model["norm_pix_loss"], computation=computation)
    return Lut(mae, HeadConfig(hidden=model["head_mlp_dim"]), HeadConfig(hidden=model["head_mlp_dim"]))


def our_parameters(tensors, model):
    return golden.our_parameters({golden.lut_name(name): array for name, array in tensors.items()}, model)


def our_statistics(tensors):
    """Running statistics by head; anything else is left out."""
    statistics = {"projector": {"norm0": {}}, "predictor": {"norm0": {}}}
    for name, array in tensors.items():
        head, _, leaf = golden.lut_name(name).partition(".norm0.")
        if leaf in RUNNING:
            statistics[head]["norm0"][RUNNING[leaf]] = array
    return statistics


def network(tensors, model):
    """A student's or teacher's parameters and running statistics."""
    learned = {name: array for name, array in tensors.items() if "running" not in name and "tracked" not in name}
    return {"parameters": our_parameters(learned, model), "statistics": our_statistics(tensors)}


def leaf(tree, name):
    """The leaf of our tree for a name of the original code."""
    return functools.reduce(operator.getitem, golden.our_path(golden.lut_name(name)), tree)


def starting_with(prefix, arrays):
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


@pytest.fixture(scope="module")
def case():
    settings, arrays = golden.case("lut_pretrain"), golden.arrays("lut_pretrain")
    student, teacher = (network(golden.checkpoint("lut_pretrain", key), settings["model"]) for key in NETWORKS)
    memory = {"statistics": student["statistics"], "teacher": teacher}
    images = np.stack([golden.channels_last(arrays["images1"]), golden.channels_last(arrays["images2"])], axis=1)
    return settings, arrays, student["parameters"], memory, {"image": images, "noise": arrays["noise"]}


def test_views_and_prediction_equal_the_original(case):
    settings, arrays, parameters, memory, batch = case
    lut = objective(settings["model"], settings["mask_ratio"])

    @jax.jit
    def forward(parameters, memory, batch):
        return lut.student(parameters, batch, memory["statistics"]), lut.teach(memory["teacher"], batch["image"])

    student, teacher = forward(parameters, memory, batch)
    assert golden.relative_error(student.reconstruction.prediction, arrays["pred"]) < TOLERANCE
    for view in (0, 1):
        assert golden.relative_error(student.vectors[:, view], arrays[f"student_view{view + 1}"]) < TOLERANCE
        assert golden.relative_error(teacher[:, view], arrays[f"teacher_view{view + 1}"]) < TOLERANCE


@pytest.mark.parametrize("computation", [Computation(), Computation(scan_blocks=True, remat="full")])
def test_step_equals_the_original(case, computation):
    settings, arrays, parameters, memory, batch = case
    if computation.scan_blocks:
        parameters, memory = stack_blocks(parameters), stack_blocks(memory)
    lut = objective(settings["model"], settings["mask_ratio"], computation)
    step = jax.jit(jax.grad(lut.loss, has_aux=True))
    gradients, outcome = step(parameters, batch, None, memory)
    gradients = unstack_blocks(gradients)
    named = {"reconstruction_loss": "mae_loss", "contextualization_loss": "bc_loss", "loss": "total_loss"}
    for ours, theirs in named.items():
        assert golden.relative_error(outcome.metrics[ours], arrays[theirs]) < TOLERANCE, ours
    for name, theirs in starting_with("grad/", arrays).items():
        expected = golden.our_array(golden.lut_name(name), theirs, settings["model"]["num_heads"])
        assert golden.relative_error(leaf(gradients, name), expected) < TOLERANCE, name
    after = our_statistics(starting_with("student_after/", arrays))
    jax.tree.map(within_tolerance, outcome.memory["statistics"], after)
    assert jax.tree.all(jax.tree.map(jnp.array_equal, outcome.memory["teacher"], memory["teacher"]))


def within_tolerance(ours, theirs):
    assert golden.relative_error(ours, theirs) < TOLERANCE


def test_momentum_equals_the_original():
    momentum = golden.arrays("lut_ema_schedule")["momentum"]
    progress = np.arange(len(momentum)) / len(momentum)
    rates = np.asarray(jax.vmap(lambda p: teacher_rate(0.996, p))(progress))
    np.testing.assert_allclose(rates, 1 - momentum, rtol=1e-5)
    assert float(teacher_rate(0.996, 49 / 50)) == pytest.approx(1 - 0.9999960535, rel=1e-4)


# Numbers of the original modules on a fill that any program can repeat.

TINY = {
    "img_size": 32,
    "patch_size": 8,
    "embed_dim": 24,
    "depth": 2,
    "num_heads": 3,
    "decoder_embed_dim": 16,
    "decoder_depth": 1,
    "decoder_num_heads": 2,
    "head_mlp_dim": 32,
    "norm_pix_loss": True,
}


def torch_shapes(model):
    """Name and shape of every parameter in the original code but the fixed position tables."""
    width, narrow = model["embed_dim"], model["decoder_embed_dim"]
    patch, hidden = model["patch_size"], model["head_mlp_dim"]
    shapes = {"cls_token": (1, 1, width), "mask_token": (1, 1, narrow)}
    shapes |= {"patch_embed.proj.weight": (width, 3, patch, patch), "patch_embed.proj.bias": (width,)}
    affine = {"decoder_embed": (narrow, width), "decoder_pred": (3 * patch**2, narrow)}
    norms = {"norm": width, "decoder_norm": narrow}
    stacks = {"blocks": (width, model["depth"]), "decoder_blocks": (narrow, model["decoder_depth"])}
    for stack, (d, depth) in stacks.items():
        for block in (f"{stack}.{i}" for i in range(depth)):
            norms |= {f"{block}.norm1": d, f"{block}.norm2": d}
            affine |= {f"{block}.attn.qkv": (3 * d, d), f"{block}.attn.proj": (d, d)}
            affine |= {f"{block}.mlp.fc1": (4 * d, d), f"{block}.mlp.fc2": (d, 4 * d)}
    for head in ("head", "predictor"):
        shapes |= {f"{head}.0.weight": (hidden, width), f"{head}.3.weight": (width, hidden)}
        norms[f"{head}.1"] = hidden
    shapes |= {f"{name}.weight": shape for name, shape in affine.items()}
    shapes |= {f"{name}.bias": shape[:1] for name, shape in affine.items()}
    return shapes | {f"{name}.{leaf}": (d,) for name, d in norms.items() for leaf in ("weight", "bias")}


def filled_parameters(model):
    tensors = sine_tensors(torch_shapes(model))
    assert len(tensors) == 56
    parameters = our_parameters(tensors, model)
    grid = (model["img_size"] // model["patch_size"],) * 2
    for part, width in (("encoder", model["embed_dim"]), ("decoder", model["decoder_embed_dim"])):
        parameters[part]["pos_embed"] = {"table": np.float32(position_table("sincos", grid, width, 1))}
    return parameters


@pytest.fixture(scope="module")
def filled():
    lut = objective(TINY, 0.75)
    views = [sine_images(4, 32, seed) for seed in (1000, 2000)]
    batch = {"image": np.stack(views, axis=1), "noise": sine(3000, 4, 16).astype(np.float32)}

    @jax.jit
    def everything(parameters, batch):
        memory = lut.init_memory(parameters)
        gradients, outcome = jax.grad(lut.loss, has_aux=True)(parameters, batch, None, memory)
        student = lut.student(parameters, batch, memory["statistics"])
        return gradients, outcome, student, lut.teach(memory["teacher"], batch["image"]), lut.second_visible(batch)

    return everything(filled_parameters(TINY), batch)


def near(expected):
    """Near every number of a dict; near a list, measured by its largest number."""
    if isinstance(expected, dict):
        return pytest.approx(expected, rel=2e-5)
    return pytest.approx(expected, rel=0, abs=TOLERANCE * max(map(abs, expected)))


def test_losses_on_the_fill(filled):
    _, outcome, student, teacher, _ = filled
    metrics = {name: float(value) for name, value in outcome.metrics.items()}
    expected = {"loss": 1.659398496, "reconstruction_loss": 1.112677192, "contextualization_loss": 2.186885214}
    assert metrics == near(expected)
    assert student.vectors[0, 0, :4].tolist() == near([0.153236492, -0.016286566, -0.382532145, -0.370324528])
    assert student.vectors[0, 1, :4].tolist() == near([-0.083073725, 0.043294892, 0.117947069, 0.070512758])
    assert teacher[0, 0, :4].tolist() == near([-0.038755275, 0.012008573, 0.137323570, 0.031746285])
    assert teacher[0, 1, :4].tolist() == near([0.015375201, 0.059201037, 0.056874964, 0.031945270])


def test_masks_on_the_fill(filled):
    _, _, student, _, second = filled
    first = student.reconstruction.mask.mask
    assert rows(first) == ["1111111111000110", "1111111010011011", "1111110101001111", "1111101010011111"]
    removed = np.ones_like(first)
    np.put_along_axis(removed, np.asarray(second), 0, axis=1)
    assert rows(removed) == ["1010110101111111", "1001110111111101", "1011111110111001", "1011110101111110"]


def rows(mask):
    return ["".join(str(int(value)) for value in row) for row in mask]


def test_running_statistics_on_the_fill(filled):
    statistics = filled[1].memory["statistics"]
    projector, predictor = statistics["projector"]["norm0"], statistics["predictor"]["norm0"]
    assert projector["mean"][:4].tolist() == near([0.033141589, 0.005524759, -0.000846853, 0.026373200])
    assert projector["variance"][:4].tolist() == near([0.813477002, 0.812446000, 0.812327118, 0.812742189])
    assert predictor["mean"][:4].tolist() == near([-0.010310866, -0.014977485, 0.003980985, 0.005352820])
    assert predictor["variance"][:4].tolist() == near([0.818471165, 0.812155630, 0.812893667, 0.812510698])


def test_gradients_on_the_fill(filled):
    expected = {
        "cls_token": 0.013352344,
        "mask_token": 0.043186035,
        "predictor.3.weight": 0.754108345,
        "patch_embed.proj.weight": 0.954903881,
    }
    assert {name: float(jnp.linalg.norm(leaf(filled[0], name))) for name in expected} == near(expected)
