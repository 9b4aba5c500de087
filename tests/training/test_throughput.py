"""Speed: what counts as time, and what a device could do."""

import jax
import jax.numpy as jnp
import pytest

from mim_jax.training import throughput
from mim_jax.training.throughput import Throughput, device_peak, peak_flops


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def make(clock):
    return Throughput(flops_per_image=50.0, batch_size=8, device_count=4, peak_flops=100.0, clock=clock)


def test_rates_leave_out_the_first_step_and_pauses():
    clock = Clock()
    meter = make(clock)
    clock.now += 60.0  # compiling
    meter.step()
    for _ in range(5):
        clock.now += 2.0
        meter.step()
    with meter.paused():
        clock.now += 1000.0
    assert meter.interval() == {
        "step_time": 2.0,
        "images_per_second": 4.0,
        "model_flops_per_second": 200.0,
        "mfu": 0.5,
    }


def test_each_interval_counts_its_own_steps():
    clock = Clock()
    meter = make(clock)
    meter.step()
    clock.now += 1.0
    meter.step()
    assert meter.interval()["step_time"] == 1.0
    clock.now += 3.0
    meter.step()
    assert meter.interval()["step_time"] == 3.0


def test_no_counted_step_gives_no_rates():
    clock = Clock()
    meter = make(clock)
    assert meter.interval() == {}
    with meter.paused():
        clock.now += 1.0
    meter.step()
    clock.now += 1.0
    assert meter.interval() == {}


def test_a_pause_ends_also_when_what_runs_inside_fails():
    clock = Clock()
    meter = make(clock)
    meter.step()
    with pytest.raises(ZeroDivisionError), meter.paused():
        clock.now += 9.0
        raise ZeroDivisionError
    clock.now += 1.0
    meter.step()
    assert meter.interval()["step_time"] == 1.0


@pytest.mark.parametrize(
    "kind, dtype, teraflops",
    [
        ("TPU v2", "bfloat16", 23),
        ("TPU v3", "bfloat16", 61.5),
        ("TPU v4", "float32", 275),
        ("TPU v4 lite", "bfloat16", 138),
        ("TPU v5 lite", "bfloat16", 197),
        ("TPU v5e", "bfloat16", 197),
        ("TPU v5", "bfloat16", 459),
        ("TPU v5p", "bfloat16", 459),
        ("TPU v6 lite", "bfloat16", 918),
        ("TPU7x", "bfloat16", 1153.5),
        ("Tesla V100-SXM2-16GB", "float16", 125),
        ("Tesla T4", "float32", 8.1),
        ("NVIDIA A100-SXM4-80GB", "bfloat16", 312),
        ("NVIDIA A100 80GB PCIe", "float32", 156),
        ("NVIDIA A10", "bfloat16", 125),
        ("NVIDIA A10G", "bfloat16", 70),
        ("NVIDIA L4", "bfloat16", 121),
        ("NVIDIA L40S", "bfloat16", 362),
        ("NVIDIA H100 80GB HBM3", "bfloat16", 989.4),
        ("NVIDIA H100 PCIe", "bfloat16", 756),
        ("NVIDIA H100 NVL", "bfloat16", 835.5),
        ("NVIDIA H200", "float32", 494.7),
        ("NVIDIA GH200 480GB", "bfloat16", 989.4),
        ("NVIDIA B200", "bfloat16", 2250),
        ("NVIDIA GB200", "bfloat16", 2500),
    ],
)
def test_known_devices_have_their_datasheet_peak(kind, dtype, teraflops):
    assert throughput._datasheet(kind)[dtype] == teraflops


def test_a_datasheet_peak_is_in_flops_and_says_so(monkeypatch):
    monkeypatch.setattr(throughput, "_PEAK_TERAFLOPS", ((r"cpu", {"bfloat16": 2.0}),))
    assert device_peak(jax.devices("cpu")[0], jnp.bfloat16) == (2e12, "datasheet")


@pytest.mark.parametrize("kind", ["cpu", "NVIDIA H100 80GB HBM3 MIG 1g.10gb", "NVIDIA GeForce GTX 1080", "TPU v99"])
def test_unknown_devices_have_no_datasheet_peak(kind):
    assert throughput._datasheet(kind) == {}


@pytest.mark.parametrize("kind", ["Tesla V100-SXM2-16GB", "Tesla T4"])
def test_devices_without_bfloat16_units_have_no_datasheet_peak_for_it(kind):
    assert "bfloat16" not in throughput._datasheet(kind)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_the_peak_of_a_cpu_is_measured_once_and_says_so(dtype):
    cpu = jax.devices("cpu")[0]
    peak = device_peak(cpu, dtype)
    assert peak.source == "measured" and 1e8 < peak.flops < 1e14
    assert device_peak(cpu, dtype) is peak and peak_flops(cpu, dtype) == peak.flops
