"""Output of an evaluation: JSON document, HTML page, terminal tables, plots and pictures."""
