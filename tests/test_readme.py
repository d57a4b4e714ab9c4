"""The README's Python runs as it stands, and its commands are what they claim to be."""

import os
import re
from pathlib import Path

import numpy as np
import pytest

import fgseg
from fgseg.commands.main import main
from fgseg.images.reading import read_image

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def test_the_first_two_bash_blocks_are_one_command_line_each():
    for block in blocks("bash")[:2]:
        assert block.count("\n") == 1


def test_the_python_of_the_readme_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), {"__name__": "__main__"})
    assert (tmp_path / "out").is_dir()


def test_every_file_the_readme_shows_is_there():
    for target in re.findall(r"\]\((?!https?:|#)([^)]+)\)", README):
        assert (ROOT / target).exists(), target


@pytest.fixture(scope="module")
def drawing_commands():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        import pictures

        yield pictures


@pytest.mark.parametrize("index", range(5))
def test_a_picture_of_the_readme_is_made_by_the_command_beneath_it(drawing_commands, index, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = drawing_commands.commands()[index]
    with pytest.raises(SystemExit) as left:
        main([*words, "--dtype", "float32"])
    assert left.value.code == 0
    made, name = drawing_commands.picture_of(words)
    drawn, shown = read_image(made), read_image(ROOT / "docs" / name)
    assert f"](docs/{name})" in README
    assert drawn.shape == shown.shape
    assert (np.abs(drawn.astype(int) - shown).max(axis=2) <= 2).mean() > 0.97  # dtypes round nearly tied pixels apart


def test_every_picture_of_the_readme_has_a_command(drawing_commands):
    made = {drawing_commands.picture_of(words)[1] for words in drawing_commands.commands()}
    assert set(re.findall(r"!\[.*?\]\(docs/(.*?)\)", README)) == made


def test_the_readme_names_every_command():
    from fgseg.commands.main import app

    for command in app.registered_commands:
        assert f"fgseg {command.callback.__name__}" in README


def test_the_version_is_stated_once(monkeypatch):
    assert os.environ.get("FGSEG_MODEL") is None
    assert fgseg.__version__ in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
