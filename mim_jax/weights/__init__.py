"""Weights of PyTorch and Hugging Face checkpoints, in and out, without PyTorch."""
