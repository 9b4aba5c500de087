"""Objectives of masked image modeling, one file each."""
