"""Fill a template; every name from the user's data is escaped."""

import re
from functools import cache
from shlex import quote
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape


def render(template: str, **values: Any) -> str:
    """A self-contained page from ``report/templates``."""
    return _environment().get_template(template).render(**values)


@cache
def _environment() -> Environment:
    """Of all pages: a template is read once."""
    environment = Environment(
        loader=PackageLoader("thanos.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["coded"] = _coded
    environment.filters["percent"] = lambda number: f"{number * 100:.1f}"
    environment.filters["quoted"] = quote
    environment.filters["signed"] = lambda number: f"{number * 100:+.1f}"
    return environment


def _coded(text: str) -> Markup:
    """Words with what stands in backticks as code."""
    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", str(escape(text))))
