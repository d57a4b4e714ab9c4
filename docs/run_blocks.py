"""Run the code of the pages: `python docs/run_blocks.py [PAGE ...]`, all pages unless some are named.

Blocks of Python, and commands of `fgseg` in blocks of bash, are run in order, in a folder of a page's own with the
files that pages speak of (photo.jpg, photos/, labelled/ ...). The commands run in this process, so that torch is loaded
once. A block that cannot run here has a mark above it that says why: `<!-- not run: it needs a GPU -->`. The site shows
these marks. Any other block of Python or bash that does not run is an error.
"""

import argparse
import contextlib
import io
import os
import re
import shlex
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

DOCS = Path(__file__).parent

__all__ = ["Block", "blocks", "make_files", "pages", "run_page"]

FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w+)\n(?P<code>.*?)^ *```$", re.DOTALL | re.MULTILINE)
MARK = re.compile(r"<!-- not run: (?P<why>[^>]+?) -->\n\s*\Z")
RUN = ("python", "bash")


@dataclass(frozen=True)
class Block:
    """A block of code of a page.

    Attributes:
        language: "python" or "bash".
        code: its lines.
        line: the number of its first line in the page.
        why_not: why it is not run; None if it is run.
    """

    language: str
    code: str
    line: int
    why_not: str | None


def pages() -> list[Path]:
    """Every page that a person writes."""
    return [path for path in sorted(DOCS.rglob("*.md")) if "generated" not in path.parts]


def blocks(text: str) -> Iterator[Block]:
    """The blocks of Python and bash of a page, in order."""
    for match in FENCE.finditer(text):
        if match["language"] in RUN:
            mark = MARK.search(text, 0, match.start())
            lines = (line.removeprefix(match["indent"]) for line in match["code"].splitlines())
            line = text.count("\n", 0, match.start()) + 2
            yield Block(match["language"], "\n".join(lines) + "\n", line, mark["why"] if mark else None)


def make_files(folder: Path) -> None:
    """The files that the pages speak of, small ones, in a folder."""
    import numpy as np
    import tifffile
    from PIL import Image
    from skimage import data

    for name in ("photos", "labelled/images", "labelled/labels", "photos/may"):
        (folder / name).mkdir(parents=True)
    cup, cat = Image.fromarray(data.coffee()), Image.fromarray(data.chelsea())
    for picture, name in (
        (cup, "photo.jpg"), (cup, "coffee.png"), (cup, "photos/coffee.png"), (cat, "photos/cat.jpg"),
        (cat.resize((112, 75)), "photos/may/cat.jpg"),
    ):  # fmt: skip
        picture.save(folder / name)
    for index, color in enumerate(((220, 30, 30), (240, 240, 240))):
        picture = np.full((96, 128, 3), (90, 60, 30), np.uint8)
        picture[24:72, 32:96] = color
        labels = np.full((96, 128), 2, np.uint8)
        labels[24:72, 32:96] = index
        Image.fromarray(picture).save(folder / "labelled" / "images" / f"{index}.png")
        Image.fromarray(labels).save(folder / "labelled" / "labels" / f"{index}.png")
    (folder / "labelled" / "classes.txt").write_text("red\nwhite\nbrown\n", encoding="utf-8")
    (folder / "classes.txt").write_text("red\nbrown, tan\n", encoding="utf-8")
    tiled = np.asarray(cup)[:384, :512]
    tifffile.imwrite(folder / "big.tif", tiled, tile=(128, 128), photometric="rgb")
    bands = np.random.RandomState(731).randint(0, 4096, (4, 64, 96), dtype=np.uint16)
    tifffile.imwrite(folder / "scene.tif", bands, planarconfig="separate", photometric="minisblack")


def run_page(page: Path) -> tuple[int, int, list[str]]:
    """Run a page's blocks.

    Returns:
        How many were run, how many are marked, and what went wrong.
    """
    found = list(blocks(page.read_text(encoding="utf-8")))
    runnable = [block for block in found if not block.why_not]
    faults: list[str] = []
    names: dict[str, object] = {"__name__": "__main__"}
    if runnable:
        with TemporaryDirectory() as folder, contextlib.chdir(folder):
            make_files(Path(folder))
            results = [(block, _run(block, names)) for block in runnable]
        faults = [f"{page.relative_to(DOCS.parent)}:{block.line}: {fault}" for block, fault in results if fault]
    return len(runnable), len(found) - len(runnable), faults


def _run(block: Block, names: dict[str, object]) -> str | None:
    """What is wrong with a block; None if it runs."""
    output = io.StringIO()
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            if block.language == "python":
                exec(compile(block.code, "<block>", "exec"), names)
                return None
            return next(filter(None, map(_command, _lines(block.code))), None)
    except (Exception, SystemExit):
        return f"{traceback.format_exc(limit=-1)}\n{output.getvalue()[-2000:]}"


def _lines(code: str) -> Iterator[str]:
    """The commands of a block, without comments."""
    for line in code.replace("\\\n", " ").splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            yield line


def _command(line: str) -> str | None:
    """Run a command of fgseg."""
    from fgseg.commands.main import main

    words = shlex.split(line, comments=True)
    if words[0] != "fgseg":
        return f"{words[0]}: only fgseg is run here; mark the block: <!-- not run: WHY -->"
    target = None
    if ">" in words:
        target, words = words[words.index(">") + 1], words[: words.index(">")]
    output = io.StringIO()
    try:
        with contextlib.redirect_stdout(output):
            main(words[1:])
    except SystemExit as left:
        if left.code not in (0, None):
            return f"{line}: exit status {left.code}"
    if target:
        Path(target).write_text(output.getvalue(), encoding="utf-8")
    return None


def main() -> None:
    """Run the pages that are named, or all, and print what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("pages", nargs="*", type=Path)
    named = [path.resolve() for path in parser.parse_args().pages] or pages()
    os.environ |= {"HF_HUB_OFFLINE": "1", "MPLBACKEND": "agg"}
    wrong = 0
    for page in named:
        started = time.perf_counter()
        ran, marked, faults = run_page(page)
        print(f"{page.relative_to(DOCS.parent)}: {ran} run, {marked} marked, {time.perf_counter() - started:.1f} s")
        for fault in faults:
            print(fault, file=sys.stderr)
        wrong += len(faults)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
