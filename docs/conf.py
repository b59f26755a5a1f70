"""Configuration of Sphinx: `nox -s docs` builds the site offline, with warnings as errors."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

project = "dreamer4-conformance"
author = "The dreamer4-conformance authors"
copyright = author

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
    "docs.generator.extension",
]
myst_enable_extensions = ["attrs_block", "attrs_inline", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
exclude_patterns = ["tests", "generator", "_build"]
suppress_warnings = ["ref.python"]  # docstrings name an argument as other modules name theirs

# Pages of the reference show the code next to the text, so that signatures need no types.
autodoc_typehints = "none"
autodoc_member_order = "bysource"
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
nitpicky = True
# Names outside the packages have no page: intersphinx would need the network.
nitpick_ignore_regex = [
    ("py:.*", r"(?!dreamer4_).*"),
    ("py:.*", r"dreamer4_.*\._.*"),
    ("py:.*", r"dreamer4_conformance\.adapters\..*"),
]

html_theme = "furo"
html_title = "Dreamer 4, executable"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_js_files = [("draggable.js", {"defer": "defer"})]
html_search_scorer = str(ROOT / "docs/search_scorer.js")
html_copy_source = False
html_show_sphinx = False
html_math_renderer = "mathml"
html_theme_options = {
    "top_of_page_buttons": [],  # most pages have no source file of their own
    "light_css_variables": {"color-brand-primary": "#0b5cad", "color-brand-content": "#0b5cad"},
    "dark_css_variables": {"color-brand-primary": "#7ab8ff", "color-brand-content": "#7ab8ff"},
}
pygments_style = "a11y-light"
pygments_dark_style = "a11y-dark"
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
linkcheck_anchors = False
