"""Flax modules: encoders and their layers, and the named presets."""
