"""Sections of an evaluation, one module each: what they measure, and on which data."""
