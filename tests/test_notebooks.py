"""The notebooks run with the embedded model, as their committed outputs say, and with other weights."""

import ast
import re
from base64 import b64decode
from io import BytesIO
from pathlib import Path

import nbformat
import numpy as np
import pytest
from PIL import Image
from tiny_models import FG_CLIP, with_tokenizer

from fgseg.prompts.word_lists import BACKGROUND_WORDS, IMAGENET_TEMPLATES
from fgseg.scenes import vocabulary

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


@pytest.fixture(scope="module")
def execute():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER)
        import execute

        yield execute


def cells(path, kind):
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == kind]


def sources(path):
    return [cell.source for cell in cells(path, "code")]


def words_of(path):
    """Every word that the tokenizer of a test model needs for this notebook."""
    texts = [*sources(path), *IMAGENET_TEMPLATES, *BACKGROUND_WORDS, *vocabulary.words()]
    return sorted(set(re.findall(r"[a-z]+|[^\w\s]+", " ".join(texts).lower())))


def test_notebooks_are_numbered_from_1_without_a_gap():
    assert [path.stem[:3] for path in NOTEBOOKS] == [f"{number:02d}_" for number in range(1, len(NOTEBOOKS) + 1)]
    assert len(NOTEBOOKS) >= 6
    for number, path in enumerate(NOTEBOOKS, start=1):
        assert cells(path, "markdown")[0].source.startswith(f"# {number}. ")


@every_notebook
def test_a_notebook_is_valid_and_holds_small_outputs_of_one_run(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert not any(cell.metadata for cell in notebook.cells)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    for output in (output for cell in code for output in cell.outputs):
        assert all(len(data) < 100_000 * 4 / 3 for data in output.get("data", {}).values())


@every_notebook
def test_a_notebook_defines_no_function_and_no_class(path):
    for source in sources(path):
        defined = [node.name for node in ast.walk(ast.parse(source)) if isinstance(node, DEFINITIONS)]
        assert not defined


@every_notebook
def test_the_first_code_cell_chooses_the_model_and_nothing_else(path):
    (statement,) = ast.parse(sources(path)[0]).body
    assert ast.unparse(statement) == "MODEL = 'mini'"
    assert "fg-clip-base" in sources(path)[0]
    assert sum("load(MODEL)" in source for source in sources(path)) == 1


@every_notebook
def test_every_code_cell_except_the_setup_follows_a_markdown_cell(path):
    kinds = [cell.cell_type for cell in nbformat.read(path, as_version=4).cells]
    assert kinds[:3] == ["markdown", "code", "code"]
    assert "code, code" not in ", ".join(kinds[2:])


@every_notebook
def test_the_files_that_a_notebook_links_to_exist(path):
    for cell in cells(path, "markdown"):
        for target in re.findall(r"\]\((?!https?:|#)([^)]+)\)", cell.source):
            assert (FOLDER / target).exists(), target


def test_the_readme_lists_every_notebook():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for path in NOTEBOOKS:
        assert f"(notebooks/{path.name})" in readme


def seen(notebook):
    """The outputs of every code cell: the words of texts without their numbers, and the sizes of pictures."""
    found = []
    for cell in (cell for cell in notebook.cells if cell.cell_type == "code"):
        for output in cell.outputs:
            data = output.get("data", {"text/plain": output.get("text", "")})
            pictures = [data[kind] for kind in ("image/png", "image/jpeg") if kind in data]
            sizes = [Image.open(BytesIO(b64decode(picture))).size for picture in pictures]
            text = "" if sizes else re.sub(r"[-+]?[\d.,]+(e-?\d+)?|\s+", " ", data.get("text/plain", ""))
            found.append((output.get("name", ""), sizes, text.split()))
    return found


@every_notebook
def test_a_notebook_runs_with_the_embedded_model_and_gives_its_committed_outputs(path, execute, tmp_path, monkeypatch):
    # Several kernels run at the same time, and their threads would wait for each other.
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    found, expected = seen(execute.executed(path, tmp_path)), seen(nbformat.read(path, as_version=4))
    hint = f"run python notebooks/execute.py {path.name}"
    assert [(name, len(sizes), text) for name, sizes, text in found] == [
        (name, len(sizes), text) for name, sizes, text in expected
    ], hint
    made, committed = (np.array([size for _, sizes, _ in cells for size in sizes]) for cells in (found, expected))
    np.testing.assert_allclose(made, committed, atol=2, err_msg=hint)  # versions of matplotlib crop another pixel
    assert "stderr" not in [name for name, _, _ in found]
    assert sum(len(sizes) for _, sizes, _ in found) >= 4


@every_notebook
def test_a_notebook_runs_with_other_weights_after_a_change_of_its_first_code_cell(path, tmp_path, monkeypatch):
    model = with_tokenizer(tmp_path / "model", FG_CLIP, words_of(path))
    monkeypatch.chdir(tmp_path)
    first, *others = sources(path)
    space = {}
    exec(first.replace('"mini"', repr(model), 1), space)
    for source in others:
        exec(compile(source, path.name, "exec"), space)
    assert space["seg"].encoder.name == model
