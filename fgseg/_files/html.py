"""Templates of HTML pages."""

from pathlib import Path
from typing import Any

__all__ = ["html_template"]


def html_template(path: Path) -> Any:
    """A Jinja template, which escapes every value and refuses to leave one out."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(path.parent)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(path.name)
