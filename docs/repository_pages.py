"""Files of the repository that pages of the site link to: they are copied into the site, and the links follow.

On a code host a page of `docs/` links to `../benchmarks/README.md`. A site cannot reach outside its folder, so such
files are copied to `docs/generated/repository/`, and the files that those link to as well. Markdown and notebooks
become pages, other files become downloads.
"""

import re
import shutil
from pathlib import Path
from posixpath import normpath, relpath
from typing import Any

__all__ = ["copy", "rewrite_links"]

COPIES = "generated/repository"
LINK = re.compile(r"(\]\()([^)\s#:]+)((?:#[^)\s]*)?\))")
"""The target of a link of Markdown, without addresses of other hosts and places in the same page."""
ALWAYS = ("CHANGELOG.md", "CONTRIBUTING.md", "benchmarks/README.md", "fgseg/assets/mini/README.md")
"""Pages that the lists of pages name."""


def copy(docs: Path) -> None:
    """Copy every file outside `docs` that one of its pages, or a file that was copied, links to."""
    root, waiting, done = docs.parent, [*ALWAYS, *_notebooks(docs.parent)], set()
    for page in sorted(docs.rglob("*.md")):
        if "generated" not in page.parts:
            waiting += _targets(page.read_text(encoding="utf-8"), page.relative_to(root).as_posix())
    while waiting:
        name = waiting.pop()
        if name in done or name.startswith("docs/") or not (root / name).is_file():
            continue
        done.add(name)
        copied = docs / COPIES / name
        copied.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith((".md", ".ipynb")):
            text = (root / name).read_text(encoding="utf-8")
            waiting += _targets(text, name)
            _write_changed(copied, _rewritten(text, name, f"docs/{COPIES}/{name}", root))
        else:
            shutil.copy2(root / name, copied)


def rewrite_links(app: Any, document: str, content: list[str]) -> None:
    """Let the links of a page of `docs` point at the copies; Sphinx calls this when it reads a page."""
    page = Path(app.env.doc2path(document)).relative_to(Path(app.srcdir).parent).as_posix()
    if page.endswith(".md") and "generated" not in page:
        content[0] = _marks(_rewritten(content[0], page, page, Path(app.srcdir).parent))


def _notebooks(root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in sorted((root / "notebooks").glob("*.ipynb"))]


def _marks(text: str) -> str:
    """Show the marks of blocks that `run_blocks.py` does not run."""
    return re.sub(r"<!-- not run: (.*?) -->\n*", r"*Not run by the tests: \1.*\n\n", text)


def _targets(text: str, page: str) -> list[str]:
    """The files that a page links to, by their names in the repository."""
    return [normpath(f"{page}/../{match[2]}") for match in LINK.finditer(text)]


def _rewritten(text: str, page: str, place: str, root: Path) -> str:
    """The text of a page of the repository, with links that hold where the site has the page."""

    def link(match: re.Match[str]) -> str:
        name = normpath(f"{page}/../{match[2]}")
        if name in ("README.md", "docs"):
            name = "docs/index.md"
        if (root / name).is_dir() and not name.startswith("docs"):
            return match[1].removeprefix("]").replace("(", "") + match[3].removesuffix(")")  # no page: the text alone
        if not (root / name).is_file():
            return match[0]
        target = name if name.startswith("docs/") else f"docs/{COPIES}/{name}"
        return match[1] + relpath(target, place.rpartition("/")[0]) + match[3]

    return LINK.sub(link, text)


def _write_changed(path: Path, text: str) -> None:
    """Write a page only if it is another, since Sphinx reads again whatever has a new time."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")
