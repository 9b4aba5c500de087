"""Every awkward and bad file ends as it should: loaded with the right numbers, or refused in one sentence."""

import json

import jax
import numpy as np
import pytest

import convert_torch_weights
from mim_jax.errors import InputError
from mim_jax.weights.loading import load
from tests import golden_cases as golden
from tests.weights.test_import_parity import statements

FOLDER = golden.FOLDER / "bad"
EXPECTED = json.loads((FOLDER / "expected.json").read_text())
MODEL = EXPECTED["model"]
STATED = {
    "num_heads": MODEL["num_heads"],
    "depth": MODEL["depth"],
    "decoder.num_heads": MODEL["decoder_num_heads"],
    "normalise_target": False,
}
FLAGS = [flag for key, value in STATED.items() for flag in ("--set", f"{key}={value}")]
FILES = EXPECTED["files"]
LONGEST = 500


def outcome(name):
    return FILES[name]["outcome"]


def check_arrays(model, expected):
    """The model gives the recorded latent, prediction and loss."""
    if expected.endswith("(case)"):
        arrays, prefix = golden.arrays(expected.split()[0]), ""
    else:
        with np.load(FOLDER / "arrays.npz") as stored:
            arrays = dict(stored)
        prefix = f"{expected}/" if expected else ""
    batch = {"image": golden.channels_last(arrays["images"]), "noise": arrays["noise"]}
    objective = model.objective
    out, loss = jax.jit(lambda tree, batch: (objective.reconstruct(tree, batch), objective.loss(tree, batch)[0]))(
        model.parameters, batch
    )
    for ours, key in ((out.latent, "latent"), (out.prediction, "pred"), (loss, "loss")):
        assert golden.relative_error(np.asarray(ours), arrays[prefix + key]) <= 1e-5, key


def stated_for(name):
    legacy = FILES[name].get("expected_arrays", "").endswith("(case)")
    return statements(FILES[name]["expected_arrays"].split()[0]) if legacy else STATED


@pytest.mark.parametrize("name", [name for name in FILES if outcome(name) == "load"])
def test_awkward_file_loads_with_the_right_numbers(name):
    check_arrays(load(FOLDER / name, stated=stated_for(name)), FILES[name]["expected_arrays"])


@pytest.mark.parametrize("name", [name for name in FILES if outcome(name).startswith("refuse")])
def test_bad_file_is_refused_in_one_sentence_and_leaves_nothing(name, tmp_path, capsys):
    status = convert_torch_weights.main([str(FOLDER / name), str(tmp_path / "out"), *FLAGS])
    captured = capsys.readouterr()
    assert status == 2 and not list(tmp_path.iterdir())
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1 and len(captured.err) < LONGEST
    assert name in captured.err
    if unwanted := FILES[name].get("must_not_print"):
        assert unwanted not in captured.out + captured.err  # nor as a warning, which would be an error here
    for wanted in FILES[name].get("message_should_name", []):
        assert wanted in captured.err


@pytest.mark.parametrize("name", [name for name in FILES if outcome(name) == "either"])
def test_file_that_may_be_refused_never_gives_wrong_numbers(name):
    try:
        model = load(FOLDER / name, stated=STATED)
    except InputError as error:
        assert "\n" not in str(error) and len(str(error)) < LONGEST
    else:
        check_arrays(model, FILES[name].get("expected_arrays", ""))


def test_unknown_array_is_left_out_when_asked():
    model = load(FOLDER / "extra_key.pth", stated=STATED, lenient=True)
    check_arrays(model, "")
    assert any("blocks.0.attn.rotary.freqs" in note for note in model.notes)


def test_nonfinite_weights_are_taken_when_asked():
    model = load(FOLDER / "nan_weight.pth", stated=STATED, allow_nonfinite=True)
    assert np.isnan(model.parameters["encoder"]["blocks"]["0"]["norm1"]["scale"]).sum() == 1
