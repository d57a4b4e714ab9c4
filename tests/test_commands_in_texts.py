"""Every `fgseg` command that a text of the project shows runs as printed, or at least has options that there are."""

import json
import re
import shlex
import shutil
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import tifffile
import typer
from dataset_folders import label_folder
from odd_images import PICTURE
from tiny_models import FG_CLIP, tiny_guide, with_tokenizer

from fgseg.commands.main import app, main
from fgseg.guides.loading import GUIDES
from fgseg.images.writing import write_image
from fgseg.prompts.word_lists import BACKGROUND_WORDS, IMAGENET_TEMPLATES

ROOT = Path(__file__).parents[1]
SKIMAGE = ("coffee.png", "astronaut.png", "chelsea.png", "rocket.jpg")
TEXTS = sorted(
    [
        *(ROOT / name for name in ("README.md", "fgseg/assets/mini/README.md")),
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / "notebooks").glob("*.ipynb"),
    ]
)
CODE = sorted((ROOT / "fgseg").rglob("*.py"))
GROUP = typer.main.get_command(app)
RUN = {"segment", "heatmap", "boxes", "rank", "models", "doctor"}
SMALL_DATA = {"labelled/", "first"}
"""Data of `fgseg bench` that the tests make; other data are large."""
WORDS = re.findall(r"\w+|[^\w\s]+", " ".join(["grass water field cat sofa", *BACKGROUND_WORDS, *IMAGENET_TEMPLATES]))
FOREIGN = {
    "--tile",
    "--bigtiff",
    "--compression",
    "--nproc-per-node",
    "--count",
    "--repeats",
    "--no-deps",
    "--force-reinstall",
    "--fg-opacity",
    "--requeue",
    "--cpus-per-task",
    "--array",
    "--head",
}
"""Options of other programs, and a property of a style sheet."""


def text_of(path):
    """A text, or the cells of a notebook."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        return "\n\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"])
    return text


def commands_in(text):
    """The words after `fgseg` of each command in bash blocks and in backticks; with `|`, `...` or `{` it is none."""
    blocks = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
    shell = "\n".join(block for language, block in blocks.findall(text) if language == "bash").replace("\\\n", " ")
    in_blocks = [part for line in shell.splitlines() for part in line.split("&&")]
    in_lines = re.findall(r"`((?:python -m )?fgseg [a-z][^`]*)`", blocks.sub("", text))
    for line in in_blocks + in_lines:
        words = shlex.split(line, comments=True)
        starts = [index for index, word in enumerate(words) if Path(word).name == "fgseg"]
        if starts and not {"|", "..."} & set(words) and "{" not in line:
            yield words[starts[0] + 1 :]


@cache
def all_commands():
    return {path: list(commands_in(text_of(path))) for path in TEXTS}


def check_options(words):
    """Parse a command without running it; a lone name is a mention."""
    context = GROUP.make_context("fgseg", list(words))
    name, command, rest = GROUP.resolve_command(context, list(words))
    if name == "store" and rest:
        context = command.make_context(name, rest, parent=context)
        name, command, rest = command.resolve_command(context, rest)
    if rest and rest != ["--help"]:
        command.make_context(name, rest, parent=context)


def test_the_texts_hold_commands_of_every_kind():
    shown = {words[0] for commands in all_commands().values() for words in commands}
    assert shown == set(GROUP.commands)


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_the_options_of_every_command_exist(path):
    for words in all_commands()[path]:
        check_options(words)


def test_commands_in_the_code_exist():
    for path in CODE:
        for words in commands_in(path.read_text(encoding="utf-8")):
            check_options(words)


def test_every_option_that_a_text_or_a_message_names_exists():
    """The recipe of the embedded model has others."""
    commands = [GROUP, *GROUP.commands.values(), *GROUP.commands["store"].commands.values()]
    options = [option for command in commands for option in command.params]
    known = {name for option in options for name in (*option.opts, *option.secondary_opts)} | {"--help"} | FOREIGN
    for path in [*(path for path in TEXTS if path.parent.name != "mini"), *CODE]:
        named = set(re.findall(r"(?<![\w({-])--[a-z][a-z-]*[a-z]\b(?![=-])", text_of(path)))
        own = set(re.findall(r"add_argument\(\"(--[a-z-]+)\"", text_of(path)))  # of a script
        assert named - own <= known, path


@pytest.fixture(scope="session")
def any_word_model(tmp_path_factory):
    """A random model that knows the words of the texts, in place of the published ones."""
    return with_tokenizer(tmp_path_factory.mktemp("models") / "any", FG_CLIP, tuple(dict.fromkeys(WORDS)))


def fill(folder):
    """The files that the texts speak of."""
    write_image(folder / "photo.jpg", np.tile(PICTURE, (20, 20, 1)))
    random = np.random.RandomState(731)
    noise = random.randint(0, 256, (48, 48, 3), dtype=np.uint8)
    # white is "red" for the small model everywhere: labels of 0 and of none alone would pass for a mask of 0 and 255
    write_image(folder / "photos" / "a.png", np.full((48, 48, 3), 255, np.uint8))
    for name in ("scenes/images/000000.png", *SKIMAGE):
        write_image(folder / name, noise)
    bands = random.randint(0, 256, (64, 64, 4), dtype=np.uint8)
    tifffile.imwrite(folder / "scene.tif", bands, photometric="minisblack", planarconfig="contig")
    tifffile.imwrite(folder / "big.tif", bands[..., :3], tile=(32, 32), photometric="rgb")
    (folder / "classes.txt").write_text("red\nwhite, dark white\n")
    label_folder(folder / "labelled", np.uint8([[0, 1, 2], [2, 0, 1]]), classes="background\nred, dark red\nblue\n")


@pytest.fixture(scope="session")
def any_guide(tmp_path_factory):
    """A random guide, in place of the published ones."""
    return str(tiny_guide(tmp_path_factory.mktemp("models") / "guide"))


def as_printed(words, tiny_model, any_word_model, any_guide):
    """The words of a command with small models, and small pictures in place of the photographs of scikit-image."""
    models = {"NAME": tiny_model, "tuned": tiny_model, "fg-clip-base": any_word_model} | dict.fromkeys(
        GUIDES, any_guide
    )
    photos = [Path(word).name if re.search(r"\$photos/|skimage/data/", word) else word for word in words]
    return [models.get(word, word) for word in photos]


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_commands_run_as_printed(path, tmp_path, monkeypatch, tiny_model, any_word_model, any_guide, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FGSEG_MODEL", tiny_model)  # has the vocabulary of the embedded model
    fill(tmp_path)
    for words in all_commands()[path]:
        is_small = words[0] == "bench" and SMALL_DATA & set(words) and "--sweep" not in words
        if len(words) < 2 or words[1] == "--help" or not (words[0] in RUN or is_small):
            continue
        shutil.rmtree("out", ignore_errors=True)
        with pytest.raises(SystemExit) as left:
            main([*as_printed(words, tiny_model, any_word_model, any_guide), *(["--no-pictures"] if is_small else [])])
        assert left.value.code == 0, f"{words}: {capsys.readouterr().err}"
