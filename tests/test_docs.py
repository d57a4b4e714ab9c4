"""The pages of the site: their blocks, links and pictures, and the tables that say what is in files."""

import ast
import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest

from fgseg import errors
from fgseg.commands.main import app, main
from fgseg.images.writing import write_image
from fgseg.segmentation.result import FORMATS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [path for path in sorted(DOCS.rglob("*.md")) if "generated" not in path.parts]
LISTS = [DOCS / name for name in ("index.md", "howto/index.md", "explanation/index.md", "reference/index.md")]
HOW_TOS = [  # nobody has run a hundred million images, so that page has nothing to show
    *(path for path in sorted((DOCS / "howto").glob("*.md")) if path.stem not in ("index", "hundred_million")),
    *(
        DOCS / f"{name}.md"
        for name in ("masks", "images", "large", "models", "training", "data", "benchmarks", "page", "sharper")
    ),
]
LINK = re.compile(r"(?<!!)\[[^\]]*\]\((?!https?:|#)([^)#\s]+)[^)]*\)")
PICTURE = re.compile(r"!\[([^\]]*)\]\(([^)\s]+)\)")

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(DOCS).as_posix())


@pytest.fixture(scope="module", autouse=True)
def scripts():
    """The scripts of docs can be imported."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(DOCS)
        yield


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The folder of a result with all its files."""
    folder = tmp_path_factory.mktemp("site")
    image = np.full((64, 96, 3), 240, np.uint8)
    image[16:48, 16:64] = (220, 20, 20)
    write_image(folder / "square.png", image)
    formats = [word for name in FORMATS for word in ("-f", name)]
    with pytest.raises(SystemExit) as left:
        main(["segment", str(folder / "square.png"), "-p", "red", "-p", "white", "-o", str(folder / "out"), *formats])
    assert left.value.code == 0
    return folder / "out" / "square"


def keys_of(page, section, pattern=r"`([\w.\[\]]+)`"):
    """The names in the first column of the tables below a heading."""
    text = (DOCS / page).read_text(encoding="utf-8").partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    assert rows, section
    return {name for row in rows for name in re.findall(pattern, row)}


@every_page
def test_a_block_runs_or_says_why_it_does_not(page):
    from run_blocks import blocks

    for block in blocks(page.read_text(encoding="utf-8")):
        first = block.code.split()[0]
        assert block.why_not or block.language == "python" or first == "fgseg", f"{page}:{block.line}"


def test_a_block_is_found_with_its_line_and_its_mark():
    from run_blocks import Block, blocks

    text = "# A\n\n```python\nx = 1\n```\n\n<!-- not run: no GPU -->\n```bash\nfgseg\n```\n\n```json\n{}\n```\n"
    assert list(blocks(text)) == [Block("python", "x = 1\n", 4, None), Block("bash", "fgseg\n", 9, "no GPU")]


def test_a_block_that_fails_is_a_fault_and_one_of_another_command_is_too():
    from run_blocks import Block, _run

    assert "ZeroDivisionError" in _run(Block("python", "1 / 0\n", 1, None), {})
    assert "mark the block" in _run(Block("bash", "ls\n", 1, None), {})
    assert "exit status 2" in _run(Block("bash", "fgseg segment\n", 1, None), {})
    assert _run(Block("bash", "fgseg --version\n", 1, None), {}) is None


@pytest.mark.parametrize("page", HOW_TOS, ids=lambda path: path.stem)
def test_a_how_to_begins_with_what_does_the_job(page):
    lines = [line for line in page.read_text(encoding="utf-8").splitlines() if line and not line.startswith("<!--")]
    assert lines[0].startswith("# ")
    assert lines[1].startswith("```")
    after = lines[lines.index("```") + 1]
    assert after.startswith(("![", "```text")), "a picture, or what is printed"


@every_page
def test_links_and_pictures_of_a_page_exist_and_pictures_are_described(page):
    text = page.read_text(encoding="utf-8")
    for target in LINK.findall(text):
        if "generated/" not in target:
            assert (page.parent / target).exists(), target
    for description, target in PICTURE.findall(text):
        assert (page.parent / target).exists(), target
        assert len(description) > 15, target


def test_every_page_is_in_a_list_of_pages():
    listed = set()
    for page in LISTS:
        for line in page.read_text(encoding="utf-8").splitlines():
            name = line.rpartition("<")[2].rstrip(">")
            listed.add((DOCS / name[1:] if name.startswith("/") else page.parent / name).with_suffix(".md"))
    assert {page for page in PAGES if page.stem != "index"} <= listed


def test_every_figure_of_the_explanations_is_drawn_by_the_script_and_shown():
    from figures import DRAWINGS

    assert {path.name for path in (DOCS / "figures").iterdir()} == set(DRAWINGS)
    shown = " ".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert all(f"figures/{name}" in shown for name in DRAWINGS)


def test_every_picture_of_the_how_tos_is_drawn_by_the_script_and_shown():
    from howto_pictures import DRAWINGS

    assert {path.name for path in (DOCS / "pictures").iterdir()} == set(DRAWINGS)
    shown = " ".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert all(f"pictures/{name}" in shown for name in DRAWINGS)


def test_the_settings_that_are_explained_are_those_of_run_json(saved):
    page = (DOCS / "reference" / "settings.md").read_text(encoding="utf-8")
    explained = {
        name
        for line in page.splitlines()
        if line.startswith("| `")
        for name in re.findall(r"`(\w+)`", line.split("|")[1])
    }
    assert explained - {"unfinished"} == set(json.loads((saved / "run.json").read_text(encoding="utf-8")))


def test_the_columns_that_are_explained_are_those_of_the_region_table(saved):
    with (saved / "regions.csv").open(encoding="utf-8") as file:
        assert keys_of("reference/files.md", "regions.csv, regions.json") == set(next(csv.reader(file)))


def test_the_keys_that_are_explained_are_those_of_the_other_files(saved):
    classes = json.loads((saved / "classes.json").read_text(encoding="utf-8"))
    names = {*classes, *(f"classes[].{name}" for name in classes["classes"][0])}
    assert keys_of("reference/files.md", "classes.json") == names
    with np.load(saved / "heatmaps.npz") as maps:
        assert keys_of("reference/files.md", "heatmaps.npz") == set(maps)
    coco = json.loads((saved / "coco.json").read_text(encoding="utf-8"))
    assert {name.split("[")[0].split(".")[0] for name in keys_of("reference/files.md", "coco.json")} == set(coco)


def test_every_format_is_among_the_exports():
    text = (DOCS / "howto" / "exports.md").read_text(encoding="utf-8")
    assert {name for name in FORMATS if f"| `{name}` |" not in text} <= {"overlay", "heatmaps"}


def test_a_link_out_of_docs_leads_to_a_copy_in_the_site():
    from repository_pages import _rewritten

    page, root = "docs/howto/exports.md", ROOT
    text = "[a](../../benchmarks/README.md#x) [b](../results.md) [c](https://example.com) [d](../../README.md)"
    assert _rewritten(text, page, page, root) == (
        "[a](../generated/repository/benchmarks/README.md#x) [b](../results.md) [c](https://example.com) "
        "[d](../index.md)"
    )
    copied = "docs/generated/repository/benchmarks/README.md"
    assert _rewritten("[s](../docs/speed.md)", "benchmarks/README.md", copied, root) == "[s](../../../speed.md)"


def test_a_site_with_a_lost_link_an_undescribed_picture_or_a_foreign_script_is_refused(tmp_path):
    from check_site import faults

    good = '<p id="here"><a href="other.html#there">x</a><a href="#here">y</a><img alt="a cat" src="cat.png"></p>'
    (tmp_path / "cat.png").write_bytes(b"")
    (tmp_path / "other.html").write_text('<p id="there"></p>', encoding="utf-8")
    (tmp_path / "index.html").write_text(good, encoding="utf-8")
    assert faults(tmp_path) == []
    bad = '<a href="lost.html">x</a><a href="other.html#lost">y</a><img src="cat.png">'
    bad += '<script src="https://example.org/a.js">'
    (tmp_path / "bad.html").write_text(bad, encoding="utf-8")
    assert [fault.split(": ")[1] for fault in faults(tmp_path)] == [
        "picture without a description",
        "no such file",
        "no such place",
        "loads from another host",
    ]


def test_the_reference_describes_every_public_name_once():
    pytest.importorskip("sphinx")
    from reference_pages import SURFACE, module_page

    described = [
        name
        for module in SURFACE
        for name in re.findall(r"^\.\. (?:auto\w+|py:data):: (\S+)", module_page(module), re.M)
    ]
    names = [name for name in described if name not in SURFACE]
    assert len(names) == len(set(names))
    short = {name.rpartition(".")[2] for name in described}
    public = {name for names in SURFACE.values() for name in names if not name.startswith("__")}
    assert public <= short


def test_the_reference_has_every_option_of_every_command():
    pytest.importorskip("sphinx")
    import typer
    from reference_pages import commands_page

    page = commands_page()
    for name, command in typer.main.get_command(app).commands.items():
        section = page.partition(f".. program:: fgseg {name}\n")[2].partition(".. program::")[0]
        for parameter in command.params:
            if parameter.name != "help" and parameter.opts[0].startswith("--"):
                assert re.search(rf"^\.\. option:: .*{parameter.opts[0]}\b", section, re.MULTILINE), (
                    name,
                    parameter.opts,
                )


def test_the_texts_of_errors_are_read_from_the_code():
    pytest.importorskip("sphinx")
    from reference_pages import error_messages, errors_page, other_sentences

    found = error_messages()
    assert (
        "OptionError",
        "background: one prompt alone has nothing to compete with; give background words, negatives or a second prompt",
    ) in found
    assert len(found) > 300
    assert "…: this model has never seen the word" in errors_page()
    assert "a PDF; draw its pages first (pdftoppm -png IN OUT)" in other_sentences()
    assert "the hub has no revision …; leave revision out, or correct it" in other_sentences()
    assert not [text for text in other_sentences() if "repeat for more" in text]


def test_the_words_of_every_error_that_is_raised_are_on_its_page():
    pytest.importorskip("sphinx")
    from reference_pages import errors_page

    page = errors_page()
    for path in sorted((ROOT / "fgseg").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = getattr(getattr(getattr(node, "exc", None), "func", None), "id", None)
            if isinstance(node, ast.Raise) and name in errors.__all__:
                texts = [part.value for part in ast.walk(node.exc) if isinstance(part, ast.Constant)]
                longest = max((text for text in texts if isinstance(text, str)), key=len, default="")
                if sum(map(str.isalpha, longest)) > 12:
                    assert " ".join(longest.replace("`", "'").split()) in page, f"{path}:{node.lineno}"


def test_what_a_check_says_of_an_argument_is_on_the_page_of_errors():
    pytest.importorskip("sphinx")
    from reference_pages import error_messages

    found = error_messages()
    assert ("OptionError", "threshold: expected a number from 0 to 1, got …; a presence, or 'auto'") in found
    row = "left: expected an array of shape …, got …"
    assert ("ShapeError", row) in found
    assert ("ShapeError", f"right{row[4:]}; row n matches row n of left") in found


def test_messages_that_the_troubleshooting_page_quotes_are_those_of_the_code():
    sources = " ".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "fgseg").rglob("*.py")))
    for quoted in (
        "this model has never seen the word", "one prompt alone has nothing to compete with",
        "expected each class once", "the image data is truncated or damaged",
        "stored in strips, which cannot be read by region", "offline mode is on", "it is damaged", "but tensor ",
        "which has no tensor", "is not on this machine", "add --overwrite to replace it", "would both go to",
        "holds a run with other settings or data", "--port: expected a free port", "the server is busy",
        "the store holds another run", "its worker died", "a process ended before it was ready", "cannot be read now",
        "images with an error row", "expected the results of", "needs a guide, got none",
        "nothing uses the regions unless they vote",
        "a region map is as large as the image",
    ):  # fmt: skip
        assert quoted in sources, quoted
        assert quoted.strip() in (DOCS / "howto" / "troubleshooting.md").read_text(encoding="utf-8"), quoted
