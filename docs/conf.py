"""The site of the documentation: `make docs` builds it into build/docs."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

project = html_title = "RecLoRA for Kedro"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "reference", "llms"]

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_copyright = False

myst_heading_anchors = 4  # the anchors of headings are those of GitHub
nb_execution_mode = "off"  # `make tutorials` stores the outputs
autodoc_member_order = "bysource"
