"""Wires a configuration into a run, one short file each."""
