"""An evaluation as JSON, page, plots and terminal tables."""
