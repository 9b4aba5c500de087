"""Learning rates against the original code."""

import jax
import numpy as np
import pytest

from mim_jax.training.schedules import linear_scaling, warmup_half_cosine
from tests import golden_cases as golden


def golden_schedule(case):
    per_epoch = case["steps_per_epoch"]
    return warmup_half_cosine(
        case["lr"],
        warmup_steps=case["warmup_epochs"] * per_epoch,
        total_steps=case["epochs"] * per_epoch,
        final=case["min_lr"],
    )


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
