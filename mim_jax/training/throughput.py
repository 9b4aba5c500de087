"""How fast a run is, and what share of the devices it uses (model FLOPs utilisation, Chowdhery et al. 2022, app. B)."""

import contextlib
import functools
import re
import time
from collections.abc import Callable, Generator
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike


class Peak(NamedTuple):
    """What a device can do at best.

    Attributes:
        flops: floating point operations per second.
        source: "datasheet", or "measured" for a large matrix product on this very device.
    """

    flops: float
    source: str


def _tensor_cores(half: float, single: float) -> dict[str, float]:
    return {"bfloat16": half, "float16": half, "float32": single}


# Teraflops of dense matrix products per JAX device, first match of the device kind wins.
# TPU: the chip pages of cloud.google.com/tpu/docs (v2, v3 and 7x show each of a chip's two cores as a device);
#   float32 is what XLA does by default, one bfloat16 pass.
# NVIDIA: the data sheets of each product, half of their "with sparsity" figures; float32 is TF32, XLA's default where
#   the device has it. Volta and Turing have neither TF32 nor bfloat16.
_PEAK_TERAFLOPS: tuple[tuple[str, dict[str, float]], ...] = (
    (r"TPU v2\b", _tensor_cores(23.0, 23.0)),
    (r"TPU v3\b", _tensor_cores(61.5, 61.5)),
    (r"TPU v4 lite\b", _tensor_cores(138.0, 138.0)),
    (r"TPU v4\b", _tensor_cores(275.0, 275.0)),
    (r"TPU v5( lite|e)\b", _tensor_cores(197.0, 197.0)),
    (r"TPU v5p?\b", _tensor_cores(459.0, 459.0)),
    (r"TPU v6( lite|e)\b", _tensor_cores(918.0, 918.0)),
    (r"TPU ?7x\b", _tensor_cores(1153.5, 1153.5)),
    (r"\bGB200\b", _tensor_cores(2500.0, 1250.0)),
    (r"\bB200\b", _tensor_cores(2250.0, 1125.0)),
    (r"\bH[12]00 NVL\b", _tensor_cores(835.5, 417.5)),
    (r"\bH100 PCIe\b", _tensor_cores(756.0, 378.0)),
    (r"\b(H100|H200|GH200)\b", _tensor_cores(989.4, 494.7)),
    (r"\bA100\b", _tensor_cores(312.0, 156.0)),
    (r"\bA30\b", _tensor_cores(165.0, 82.0)),
    (r"\bA40\b", _tensor_cores(149.7, 74.8)),
    (r"\bA10G\b", _tensor_cores(70.0, 35.0)),
    (r"\bA10\b", _tensor_cores(125.0, 62.5)),
    (r"\bL40S\b", _tensor_cores(362.0, 183.0)),
    (r"\bL40\b", _tensor_cores(181.0, 90.5)),
    (r"\bL4\b", _tensor_cores(121.0, 60.0)),
    (r"\bRTX 4090\b", _tensor_cores(165.2, 82.6)),
    (r"\bRTX 3090\b", _tensor_cores(71.0, 35.6)),
    (r"\bV100\b", {"float16": 125.0, "float32": 15.7}),
    (r"\bT4\b", {"float16": 65.0, "float32": 8.1}),
)


def device_peak(device: jax.Device, dtype: DTypeLike) -> Peak:
    """The peak of `device` in `dtype`; measured (once, in a fraction of a second) where no data sheet is known."""
    name = jnp.dtype(dtype).name
    teraflops = _datasheet(device.device_kind).get(name)
    return _measured_peak(device, name) if teraflops is None else Peak(teraflops * 1e12, "datasheet")


def peak_flops(device: jax.Device, dtype: DTypeLike) -> float:
    """Floating point operations per second of `device_peak`."""
    return device_peak(device, dtype).flops


def _datasheet(kind: str) -> dict[str, float]:
    if "MIG" in kind:  # a slice of a device is none of the devices of the table
        return {}
    return next((peaks for pattern, peaks in _PEAK_TERAFLOPS if re.search(pattern, kind)), {})


@functools.cache
def _measured_peak(device: jax.Device, dtype: str, seconds: float = 0.1) -> Peak:
    """The best of repeated products of two square matrices."""
    size = 512 if device.platform == "cpu" else 4096
    matrix = jax.device_put(jnp.ones((size, size), dtype), device)
    product = jax.jit(jnp.matmul)
    product(matrix, matrix).block_until_ready()
    times, end = [], time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        start = time.perf_counter()
        product(matrix, matrix).block_until_ready()
        times.append(time.perf_counter() - start)
    return Peak(2 * size**3 / min(times), "measured")


class Throughput:
    """Speed of a training loop, over the time between two calls of `interval`, pauses left out.

    The clock starts when the first step has been taken, so that its compilation is not counted.

    Args:
        flops_per_image: floating point operations of one training step, per image.
        batch_size: images per step, over all devices.
        device_count: devices of all processes.
        peak_flops: operations per second of one device, from `peak_flops`.
        clock: seconds from any origin.
    """

    def __init__(
        self,
        *,
        flops_per_image: float | int,
        batch_size: int,
        device_count: int,
        peak_flops: float,
        clock: Callable[[], float] = time.perf_counter,
    ):
        self._flops_per_image, self._batch_size = flops_per_image, batch_size
        self._peak = device_count * peak_flops
        self._clock = clock
        self._start: float | None = None
        self._steps = 0

    def step(self) -> None:
        """To be called after each step."""
        if self._start is None:
            self._start = self._clock()
        else:
            self._steps += 1

    @contextlib.contextmanager
    def paused(self) -> Generator[None]:
        """Time inside does not count: checkpoints, evaluation, pictures."""
        before = self._clock()
        try:
            yield
        finally:
            if self._start is not None:
                self._start += self._clock() - before

    def interval(self) -> dict[str, float]:
        """Means since the last call; empty when no step was counted.

        Steps are dispatched ahead of the device: call it when the last step's metrics have arrived.

        Returns:
            `step_time` (seconds), `images_per_second`, `model_flops_per_second` (over all devices) and `mfu`
            (that as a share of the peak of all devices).
        """
        now = self._clock()
        if self._start is None or not self._steps or now <= self._start:
            return {}
        step_time = (now - self._start) / self._steps
        self._start, self._steps = now, 0
        images_per_second = self._batch_size / step_time
        flops = images_per_second * self._flops_per_image
        return {
            "step_time": step_time,
            "images_per_second": images_per_second,
            "model_flops_per_second": flops,
            "mfu": flops / self._peak,
        }
