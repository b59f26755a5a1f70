"""What a check uses to reach a verdict: the trial, comparisons, bounds of random laws, Hypothesis strategies, and the diagnosis of a failure."""
