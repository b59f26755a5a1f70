"""Implementations that test the suite: the base (the paper in plain PyTorch), mistakes that must fail, equivalents that must pass."""
