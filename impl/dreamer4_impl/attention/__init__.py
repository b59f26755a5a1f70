"""Attention along space or time: one function, several backends."""
