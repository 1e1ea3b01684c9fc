"""Sphinx configuration: MyST pages, Furo."""

project = "rgbt_fusion"
author = "The rgbt_fusion authors"
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
myst_heading_anchors = 2
myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
html_theme = "furo"
html_title = "rgbt_fusion"
exclude_patterns = ["_build"]
autodoc_typehints = "signature"
napoleon_google_docstring = True
napoleon_custom_sections = ["Shape", "Source"]
