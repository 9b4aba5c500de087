"""Learning rates against the original code."""

from functools import partial

import jax
import numpy as np
import pytest

from mim_jax.training.schedules import (
    GroupSchedule,
    cosine_decay,
    linear_decay,
    linear_scaling,
    multistep_decay,
    square_root_scaling,
    step_decay,
    warmup_half_cosine,
)
from tests import golden_cases as golden


def golden_schedule(case):
    per_epoch = case["steps_per_epoch"]
    return warmup_half_cosine(
        case["lr"],
        warmup_steps=case["warmup_epochs"] * per_epoch,
        total_steps=case["epochs"] * per_epoch,
        final=case["min_lr"],
    )


# The decays of the golden cases from their settings, with lengths in steps.
DECAYS = {
    "simmim_lr_cosine": lambda case, total, warmup: cosine_decay(total, final=case["min_lr"]),
    "simmim_lr_multistep": lambda case, total, warmup: multistep_decay(
        [case["steps_per_epoch"] * epoch for epoch in case["milestone_epochs"]], factor=case["gamma"]
    ),
    "simmim_lr_linear": lambda case, total, warmup: linear_decay(total, start=warmup),
    "simmim_lr_step": lambda case, total, warmup: step_decay(
        case["steps_per_epoch"] * case["decay_epochs"], factor=case["decay_rate"]
    ),
    "swin_lr_cosine": lambda case, total, warmup: cosine_decay(total, final=case["min_lr"]),
    "swin_lr_cosine_warmup_prefix": lambda case, total, warmup: cosine_decay(total, final=case["min_lr"], start=warmup),
}


def golden_group_schedule(name, delayed=False):
    case = golden.case(name)
    total, warmup = (case["steps_per_epoch"] * case[epochs] for epochs in ("epochs", "warmup_epochs"))
    return GroupSchedule(case["base_lr"], DECAYS[name](case, total, warmup), warmup, case["warmup_lr"], delayed)


def test_rates_equal_the_original_to_the_last_step():
    arrays = golden.arrays("mae_lr_half_cosine")
    rates = jax.jit(jax.vmap(golden_schedule(golden.case("mae_lr_half_cosine"))))(np.arange(60))
    np.testing.assert_allclose(rates, arrays["value"], rtol=1e-5)
    np.testing.assert_allclose(np.outer(rates, [0.75**3, 1]), arrays["group_lr"], rtol=1e-5)


def test_final_rate_is_reached_and_kept():
    schedule = warmup_half_cosine(1.0, warmup_steps=0, total_steps=10, final=0.1)
    assert float(schedule(0)) == pytest.approx(1.0)
    assert float(schedule(10)) == float(schedule(99)) == pytest.approx(0.1)


def test_published_batch_gives_the_published_rate():
    assert linear_scaling(1.5e-4, 4096) == pytest.approx(2.4e-3)
    assert square_root_scaling(1.5e-4, 4096) == pytest.approx(2.4e-3)
    assert square_root_scaling(1e-3, 1024, divisor=8.0) == pytest.approx(4e-3)


@pytest.mark.parametrize("name", DECAYS)
def test_group_rates_equal_the_original(name):
    expected, schedule = golden.arrays(name)["lr"], golden_group_schedule(name)
    scales = golden.case(name).get("group_scales", [1.0])
    for scale, column in zip(scales, expected.reshape(len(expected), -1).T, strict=True):
        rates = jax.jit(jax.vmap(partial(schedule, scale=scale)))(np.arange(len(column)))
        np.testing.assert_allclose(rates, column, rtol=1e-6)


@pytest.mark.parametrize("name", DECAYS)
def test_a_delayed_schedule_starts_with_the_initial_rate_and_lags_by_one(name):
    arrays, schedule = golden.arrays(name), golden_group_schedule(name, delayed=True)
    rates = jax.vmap(schedule)(np.arange(20))
    expected = np.stack([arrays["initial"], *arrays["lr"][:19]]).reshape(20, -1)[:, 0]
    np.testing.assert_allclose(rates, expected, rtol=1e-6)


def test_an_array_of_scales_gives_an_array_of_rates():
    schedule, scales = golden_group_schedule("simmim_lr_cosine"), np.array([1.0, 0.5, 0.001])
    np.testing.assert_allclose(schedule(30, scales), [schedule(30, float(scale)) for scale in scales], rtol=1e-6)


def test_a_group_below_the_final_rate_rises():
    schedule = GroupSchedule(1.0, cosine_decay(10, final=0.1))
    assert float(schedule(0, 0.01)) == pytest.approx(0.01)
    assert float(schedule(10, 0.01)) == pytest.approx(0.1)


def test_without_a_warmup_the_base_rate_comes_first():
    for decay in (cosine_decay(10), multistep_decay([5]), step_decay(5), linear_decay(10)):
        assert float(GroupSchedule(0.3, decay)(0)) == pytest.approx(0.3)
