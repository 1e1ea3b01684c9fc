"""Sphinx configuration: MyST pages, Furo, formulas as MathML; builds without a network."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

project = "rgbt_fusion"
author = "The rgbt_fusion authors"
extensions = [
    "api_pages",
    "mathml",
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
myst_heading_anchors = 3
myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
html_theme = "furo"
html_title = "rgbt_fusion"
html_math_renderer = "mathml"
html_static_path = ["static"]
html_css_files = ["formulas.css"]
exclude_patterns = ["_build"]
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
napoleon_google_docstring = True
napoleon_custom_sections = ["Shape", "Source"]
