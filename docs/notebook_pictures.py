"""The pictures of the gallery and of the notebooks: what the last value of a block draws of itself."""

from pathlib import Path
from typing import Any

from docutils import nodes

__all__ = ["describe", "scrape"]


def scrape(block: Any, block_vars: dict[str, Any], gallery_conf: dict[str, Any]) -> str:
    """Save the picture of the last value of a block, if it has one; sphinx-gallery calls this after each block.

    Args:
        block: the block: its kind, its text and its line.
        block_vars: what sphinx-gallery knows of it. The last value of the block is called "___".
        gallery_conf: settings of the gallery.

    Returns:
        The reStructuredText that shows the picture; "" without one.
    """
    from sphinx_gallery.scrapers import figure_rst

    value = block_vars["example_globals"].get("___")
    draw = getattr(value, "_repr_png_", None)
    if draw is None:
        return ""
    path = Path(next(block_vars["image_path_iterator"]))
    path.write_bytes(draw())
    return figure_rst([str(path)], gallery_conf["src_dir"], alt_text(block_vars["example_globals"], value))


def alt_text(names: dict[str, Any], value: object) -> str:
    """What the script says of the picture, in its variable `alt`; else what the value says of itself."""
    return str(names.pop("alt", repr(value))).replace("\n", " ")


def describe(app: Any, document: nodes.document) -> None:
    """Describe the pictures of a notebook by the sentences above them; Sphinx calls this when it has read a page.

    Every code cell has a sentence or two above it that say what its picture shows.
    """
    sentences = ""
    for node in document.findall(lambda node: isinstance(node, nodes.paragraph | nodes.image)):
        if isinstance(node, nodes.paragraph):
            sentences = node.astext().replace("\n", " ")
        elif not node.get("alt"):
            node["alt"] = f"What the code above draws. {sentences}"
