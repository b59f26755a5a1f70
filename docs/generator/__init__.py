"""Writes the pages of the site that follow from the code: equations, clauses, readings, mistakes, figures, API."""
