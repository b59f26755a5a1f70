"""How good a trained model is, on data that it has not seen: numbers with intervals, a page to look at, and bars to pass."""
