"""Fused attention in Triton."""
