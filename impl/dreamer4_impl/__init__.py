"""Dreamer 4 (Hafner, Yan, Lillicrap 2025, arXiv:2509.24527) in PyTorch: one equation, one module.

τ is the signal level everywhere: 0 is pure noise, 1 is clean data. Shapes: B batch, T time, S spatial tokens,
D channels.
Half-precision inputs are computed in float32. Nothing here reads the values of a tensor unless it says so.
"""
