"""Settings of the documentation site: `make docs`. Nothing is fetched while it is built.

The site has pages from three places: those in this folder, those of the repository that they link to
(`repository_pages.py`), and those that are made from the code (`reference_pages.py`).
"""

import os
import sys
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS.parent), str(DOCS)]

import notebook_pictures  # noqa: E402  these lie in this folder
import reference_pages  # noqa: E402
import repository_pages  # noqa: E402

import fgseg  # noqa: E402

REPOSITORY_URL = ""
"""Where the repository is published, such as "https://HOST/OWNER/fgseg". This is the one place to say so: with it, the
site links to the repository. It is empty while there is no such place."""

project = "fgseg"
author = "the authors of fgseg"
project_copyright = "the authors of fgseg; Apache-2.0"
version = release = fgseg.__version__
language = "en-GB"
smartquotes = False  # options and messages are copied from pages into terminals

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["gallery/*", "generated/gallery/*.ipynb", "generated/gallery/*.py", "**/sg_execution_times.rst"]
suppress_warnings = [
    "config.cache",  # the gallery's settings hold functions
]

myst_heading_anchors = 3
nb_execution_mode = os.environ.get("FGSEG_DOCS_NOTEBOOKS", "force")
"""The notebooks are run, which takes a minute; "off" shows their committed outputs."""
nb_execution_in_temp = True
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_merge_streams = True
nb_ipywidgets_js: dict[
    str, dict[str, str]
] = {}  # sliders need a kernel; the script that draws them comes from another host

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autosummary_generate = False  # reference_pages.py writes the pages, one for each package
napoleon_numpy_docstring = False
napoleon_use_ivar = True
default_role = "py:obj"
"""Single backticks in docstrings are names; those of public objects become links."""

html_theme = "pydata_sphinx_theme"
html_title = "fgseg"
html_favicon = "static/icon.svg"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_sidebars = {"index": [], "compare": []}
html_theme_options = {
    "header_links_before_dropdown": 7,
    "navbar_persistent": ["search-button"],  # the field with a label has another name for screen readers than on screen
    "navbar_end": ["theme-switcher"],
    "collapse_navigation": True,
    "show_prev_next": False,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
    **({"github_url": REPOSITORY_URL} if REPOSITORY_URL else {}),
}
html_context = {"default_mode": "auto"}

sphinx_gallery_conf = {
    "examples_dirs": "gallery",
    "gallery_dirs": "generated/gallery",
    "filename_pattern": r"/plot_",
    "image_scrapers": (notebook_pictures.scrape,),
    "capture_repr": ("__str__",),
    "ignore_repr_types": r"Segmentation|Heatmaps|NotebookFigure|Figure|Image",
    "reset_modules": (),
    "download_all_examples": False,
    "show_memory": False,
    "show_signature": False,
    "min_reported_time": 10_000,
    "write_computation_times": False,
    "abort_on_example_error": True,
    "within_subsection_order": "FileNameSortKey",
    "matplotlib_animations": False,
}


def setup(app: Any) -> None:
    """Make the pages before Sphinx looks for them."""
    app.connect("config-inited", _make_pages, priority=100)  # before the gallery looks at its folder
    app.connect("source-read", repository_pages.rewrite_links)
    app.connect("doctree-read", notebook_pictures.describe)


def _make_pages(app: Any, _: Any) -> None:
    repository_pages.copy(DOCS)
    reference_pages.write(DOCS / "generated" / "reference")
