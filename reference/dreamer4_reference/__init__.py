"""Dreamer 4 as executable equations: NumPy, float64, one module per equation.

The paper is Hafner, Yan, Lillicrap 2025, "Training Agents Inside of Scalable World Models", arXiv:2509.24527v1.
reference/README.md in the repository has the index of equations and the conventions. The two that matter most: τ is
the signal level, 0 for pure noise and 1 for clean data; where the paper leaves a choice open, a keyword offers the
readings, the default first, and A1, A2, … are their ids.
"""
