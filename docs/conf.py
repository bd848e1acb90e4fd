"""Sphinx configuration; warnings are errors in ``make docs``."""

project = "sandbox"
author = "the sandbox authors"
copyright = "2026, the sandbox authors"
extensions = ["myst_parser", "sphinx.ext.autodoc"]
html_theme = "furo"
html_title = "sandbox"
exclude_patterns = ["build"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
nitpicky = False
