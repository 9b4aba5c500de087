"""The reference implementations in PyTorch that models are verified against."""
