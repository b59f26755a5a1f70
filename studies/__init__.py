"""Experiments behind the readings and presets, one package each with its results and a README."""
