"""How `make docs` builds these pages and the API reference."""

import re
from importlib.metadata import version as installed

from numpy.typing import ArrayLike
from sphinx.util.typing import stringify_annotation

project, author, copyright = "thanos", "The thanos authors", "2026, the thanos authors"
version = release = installed("thanos-repr")
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
html_theme = "furo"
html_title = "thanos"
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
suppress_warnings = ["myst.header", "misc.highlighting_failure", "ref.python"]
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_google_docstring, napoleon_numpy_docstring = True, False
napoleon_use_rtype = False


def link_outside_as_download(app, name, source):
    """Tables and folders outside docs/ are no pages here: what is a file is offered as one."""
    source[0] = re.sub(r"\[([^\]]+)\]\((\.\./[^)]+\.md)\)", r"{download}`\1 <\2>`", source[0])
    source[0] = re.sub(r"\[([^\]]+)\]\(\.\./(?:results|results/theory)\)", r"`\1`", source[0])


def shorten_array_like(app, what, name, thing, options, signature, returned):
    """numpy's ArrayLike by its name, not by all that it stands for."""
    for style in ("fully-qualified-except-typing", "fully-qualified", "smart"):
        whole = stringify_annotation(ArrayLike, style)
        signature = signature and signature.replace(whole, "ArrayLike")
    return signature, returned


def setup(app):
    app.connect("autodoc-process-signature", shorten_array_like)
    app.connect("source-read", link_outside_as_download)
