"""Tools of the checks to reach a verdict: trial, comparisons, tail bounds, Hypothesis strategies, and diagnosis."""
