"""Check the pages of a built site: `python docs/check_site.py build/site`.

Every link inside the site leads to a file and a place that exist, every picture has a description of its own, and no
page loads anything from another host.
"""

import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

__all__ = ["faults"]

LOADED = {("script", "src"), ("img", "src"), ("link", "href"), ("iframe", "src"), ("source", "src")}
"""What a browser fetches without a click."""


class _Page(HTMLParser):
    """The links, the places and the pictures of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.targets: list[tuple[str, str, str]] = []
        self.places: set[str] = set()
        self.pictures: list[dict[str, str | None]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.places |= {value for name in ("id", "name") if (value := values.get(name))}
        if tag == "img":
            self.pictures.append(values)
        self.targets += [(tag, name, value) for name, value in attrs if name in ("href", "src") and value]


@cache
def _read(path: Path) -> _Page:
    return _Page(path.read_text(encoding="utf-8"))


def faults(site: Path) -> list[str]:
    """What is wrong with the pages below a folder, one line each."""
    return [
        f"{path.relative_to(site)}: {fault}"
        for path in sorted(site.rglob("*.html"))
        if "_static" not in path.relative_to(site).parts
        for fault in _faults(path)
    ]


def _faults(path: Path) -> list[str]:
    page = _read(path)
    found = [
        f"picture without a description: {values.get('src')}" for values in page.pictures if not _described(values)
    ]
    for tag, name, target in page.targets:
        if target.startswith(("http:", "https:", "//")):
            if (tag, name) in LOADED:
                found.append(f"loads from another host: {target}")
        elif not target.startswith(("mailto:", "data:", "javascript:")):
            found += _missing(path, target)
    return found


def _described(picture: dict[str, str | None]) -> bool:
    """Whether a picture has a description; an empty one means that the text beside it says the same."""
    text = picture.get("alt")
    return text is not None and not text.endswith((".png", ".svg", ".jpg", ".jpeg"))


def _missing(path: Path, target: str) -> list[str]:
    """A link that leads nowhere."""
    file, place = urldefrag(target.split("?")[0] if "?" in target else target)
    goal = path.parent / unquote(file) if file else path
    if goal.is_dir():
        goal = goal / "index.html"
    if not goal.exists():
        return [f"no such file: {target}"]
    if place and goal.suffix == ".html" and unquote(place) not in _read(goal).places:
        return [f"no such place: {target}"]
    return []


def main() -> None:
    """Print what is wrong, and fail if something is."""
    found = faults(Path(sys.argv[1]))
    print("\n".join(found) if found else "every link leads somewhere, every picture has a description")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
