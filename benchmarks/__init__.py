"""How fast the implementation is on the machine at hand, and guards that notice when it becomes slower or larger.

`workloads` says what is measured, `timing` and `counters` how, `guard` what counts as a regression, `base` compares with
another commit; `bench_*.py` are run by pytest, `growth` by itself.
"""
