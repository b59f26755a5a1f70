"""Implementations that test the suite: base (the paper in PyTorch), mistakes (must fail), equivalents (must pass)."""
