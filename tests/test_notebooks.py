"""The notebooks run with the embedded model and with other weights, and hold no outputs."""

import ast
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from tiny_models import FG_CLIP, with_tokenizer

from fgseg.prompts.word_lists import BACKGROUND_WORDS, IMAGENET_TEMPLATES
from fgseg.scenes import vocabulary

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
SLOWEST = 300  # seconds that one cell may take on a busy machine
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


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
def test_a_notebook_is_valid_and_stripped(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    for cell in notebook.cells:
        assert not cell.metadata
        assert cell.cell_type == "markdown" or (cell.outputs == [] and cell.execution_count is None)


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


@every_notebook
def test_a_notebook_runs_with_the_embedded_model_and_shows_pictures(path, tmp_path, monkeypatch):
    # Several kernels run at the same time, and their threads would wait for each other.
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook, timeout=SLOWEST, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert [output.text for output in outputs if output.output_type == "stream" and output.name == "stderr"] == []
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 4
    assert ("02" in path.stem) == any("widget-view+json" in key for o in outputs for key in o.get("data", {}))


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
