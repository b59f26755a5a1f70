"""Evaluation of a trained model on held-out data: measures with confidence intervals, an HTML page, acceptance bars."""
