"""Benchmarks of the implementation on the local machine, with guards against regressions in time and memory.

`workloads` lists the measurements, `timing` and `counting` implement them, `guard` defines a regression, and `base`
compares with another commit. pytest runs `bench_*.py`; `growth` is a separate command.
"""
