#!/usr/bin/env bash
# jax 0.10.2, jaxlib 0.10.2, CPU.
#
# A float32 token that is cast to bfloat16 and then broadcast over a batch (as mask tokens, class tokens and biases are under
# a bfloat16 policy) gets a gradient that a compiled program sums in bfloat16: with 16,384 summands it is off by about a fifth.
# `jnp.sum` of the same bfloat16 numbers is right to 0.3 %, for it sums in float32; the sum that differentiation makes of a
# broadcast does not. Broadcast first and cast then: off by 0.002 %.
#
# Seen:
#   cast, then broadcast: 0.2176
#   broadcast, then cast: 0.0000
#   jnp.sum of bfloat16:  0.0021
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check jax==0.10.2 jaxlib==0.10.2 numpy==2.3.5
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PYTHON'
import jax
import jax.numpy as jnp
import numpy as np

ROWS, WIDTH = 16_384, 8
weights = 0.01 + 0.01 * jax.random.normal(jax.random.key(0), (ROWS, WIDTH))
token = jnp.full((WIDTH,), 0.01)
exact = np.asarray(weights, np.float64).sum(0)


def loss(rows):
    return jnp.sum(rows.astype(jnp.float32) * weights)


def cast_first(token):
    return loss(jnp.broadcast_to(token.astype(jnp.bfloat16), (ROWS, WIDTH)))


def broadcast_first(token):
    return loss(jnp.broadcast_to(token, (ROWS, WIDTH)).astype(jnp.bfloat16))


def error(found):
    return float(np.linalg.norm(np.asarray(found, np.float64) - exact) / np.linalg.norm(exact))


first = error(jax.jit(jax.grad(cast_first))(token))
second = error(jax.jit(jax.grad(broadcast_first))(token))
summed = error(jax.jit(lambda rows: jnp.sum(rows.astype(jnp.bfloat16), 0).astype(jnp.float32))(weights))
print(f"cast, then broadcast: {first:.4f}\nbroadcast, then cast: {second:.4f}\njnp.sum of bfloat16:  {summed:.4f}")
assert first > 0.1 and second < 0.001 and summed < 0.005, "this behaviour has changed"
PYTHON
