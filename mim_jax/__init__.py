"""mim_jax: masked image modeling in JAX."""
