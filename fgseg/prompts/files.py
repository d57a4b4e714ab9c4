"""Class files and template files. Errors name the line or entry of the file."""

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from fgseg._checks import describe
from fgseg.errors import PromptError
from fgseg.prompts.classes import PromptClass, SharedSynonyms, check_distinct, make_class
from fgseg.prompts.words import check_templates, is_color, places_in, quote, split_words, strip_word

__all__ = ["read_class_file", "read_template_file"]

_Placed = tuple[str, PromptClass]  # a class and, before it, its place in the file for messages

_CLASS_SUFFIXES = (".txt", ".json", ".yaml", ".yml")
_ENTRY_KEYS = ("name", "prompts", "color")
_HEX_COLOR = re.compile(r"#[0-9a-fA-F]{6}")


def _read_lines(file: Path) -> Iterator[tuple[str, str]]:
    """The place and the stripped text of every line of a UTF-8 file, with blank lines and without comments."""
    for number, line in enumerate(_read_text(file).split("\n"), start=1):
        if line.split(maxsplit=1)[:1] != ["#"]:
            yield f"{file}, line {number}", line.strip()


def _read_text(file: Path) -> str:
    """The text of a UTF-8 file without a byte order mark and with line feeds as line ends."""
    try:
        data = file.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        raise PromptError(f"{file}: cannot be read ({getattr(error, 'strerror', error)}); check the path") from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # error.object, not data: its positions count from after a byte order mark.
        line = error.object[: error.start].count(b"\n") + 1
        byte = error.object[error.start]
        raise PromptError(
            f"{file}, line {line}: expected UTF-8 text, got byte 0x{byte:02x}; save the file as UTF-8"
        ) from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _line_classes(file: Path) -> Iterator[_Placed]:
    blank = ""
    for place, line in _read_lines(file):
        if not line:
            blank = blank or place
        elif blank:
            raise PromptError(f"{blank}: expected a class, got a blank line, which would shift labels; delete it")
        elif ";" in line:
            raise PromptError(
                f"{place}: expected commas between synonyms, got ';' in {quote(line)}; write commas, or "
                "use a .json or .yaml file for a prompt that holds a semicolon"
            )
        else:
            words = split_words(place, line)
            yield place, make_class(place, words[0], words)


def _document_classes(file: Path) -> Iterator[_Placed]:
    document = _load_document(file, _read_text(file))
    if isinstance(document, Mapping):
        _check_keys(str(file), document, ("classes",))
        document = document.get("classes")
    if not isinstance(document, list):
        raise PromptError(
            f'{file}: expected a list of classes or {{"classes": [...]}}, got {describe(document)}; '
            'write [{"name": "red"}]'
        )
    for number, entry in enumerate(document, start=1):
        place = f"{file}, entry {number}"
        yield place, _entry_class(place, entry)


def _load_document(file: Path, text: str) -> object:
    try:
        document: object = json.loads(text) if file.suffix.lower() == ".json" else yaml.safe_load(text)
    except json.JSONDecodeError as error:
        raise PromptError(f"{file}, line {error.lineno}: not JSON ({error.msg}); correct that line") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)  # the error of a control character has no mark
        place = f"{file}, line {mark.line + 1}" if mark else str(file)
        problem = getattr(error, "problem", None) or getattr(error, "reason", error)
        raise PromptError(f"{place}: not YAML ({problem}); correct that line") from error
    # YAML: dates that do not exist, tagged booleans and times that are none, nesting without end
    except (ValueError, RecursionError, KeyError, AttributeError, TypeError) as error:
        raise PromptError(f"{file}: not a list of classes ({error}); put odd names in quotes") from error
    return document


def _entry_class(place: str, entry: object) -> PromptClass:
    if not isinstance(entry, Mapping):
        raise PromptError(f'{place}: expected a class, got {describe(entry)}; write {{"name": "red"}}')
    _check_keys(place, entry, _ENTRY_KEYS)
    if "name" not in entry:
        raise PromptError(f"{place}: expected a name, got only {', '.join(entry) or 'nothing'}; add one")
    name = strip_word(f"{place}, name", entry["name"])
    prompts = entry.get("prompts", [name])
    if not isinstance(prompts, list):
        raise PromptError(f"{place}, prompts: expected a list of strings, got {describe(prompts)}; write ['red']")
    places = places_in(f"{place}, prompts", prompts)
    words = tuple(strip_word(where, word) for where, word in zip(places, prompts, strict=True))
    return make_class(place, name, words, _parse_color(place, entry["color"]) if "color" in entry else None)


def _parse_color(place: str, value: Any) -> tuple[int, int, int]:
    if isinstance(value, str) and _HEX_COLOR.fullmatch(value):
        red, green, blue = bytes.fromhex(value[1:])
    elif isinstance(value, list) and is_color(tuple(value)):
        red, green, blue = value
    else:
        # null is refused too, because an unquoted #ff0000 is read as null in YAML.
        raise PromptError(
            f'{place}, color: expected [r, g, b] from 0 to 255 or "#rrggbb", got {describe(value)}; '
            "leave the key out for no color; YAML needs the quotes"
        )
    return red, green, blue


def _check_keys(place: str, entry: Mapping[Any, Any], known: Sequence[str]) -> None:
    unknown = [str(key) for key in entry if key not in known]
    if unknown:
        raise PromptError(f"{place}: unknown key {', '.join(unknown)}; the known ones are {', '.join(known)}")


def read_class_file(
    path: str | os.PathLike[str], *, shared_synonyms: SharedSynonyms = "refuse"
) -> tuple[PromptClass, ...]:
    r"""Read classes from a UTF-8 file, in label order: the first class is label 0.

    `.txt`: one class per line, written as for `parse_classes`. Blank lines at the end are ignored. A blank line
    above a class is refused, because it may stand for a label. A line whose first word is `#` is a comment, while
    `#ff0000` is a query word. A semicolon is refused, because some projects put it between synonyms and the line
    would become one query word.

    `.json`, `.yaml`, `.yml`: a list of `{"name": ..., "prompts": [...], "color": ...}`, or that list under
    the only key `classes`. `prompts` are the query words, `[name]` if left out; commas in them have no meaning.
    `color` is `[r, g, b]` or `"#rrggbb"` (with quotes in YAML, where `#` begins a comment).

    Args:
        path: the file. Its suffix tells the format.
        shared_synonyms: as in `parse_classes`.

    Returns:
        One class per line or entry, at least one.

    Raises:
        PromptError: the file is missing, unreadable, of another suffix or of another form, or as `parse_classes`;
            the message names the line or entry.
        OptionError: as `parse_classes`.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "classes.txt")
    ...     _ = file.write_text("# label 0 is the background\nwall, floor\ncup\n")
    ...     [entry.synonyms for entry in read_class_file(file)]
    [('wall', 'floor'), ('cup',)]
    """
    file = Path(path)
    suffix = file.suffix.lower()
    if suffix not in _CLASS_SUFFIXES:
        known = ", ".join(_CLASS_SUFFIXES)
        raise PromptError(f"{file}: expected a class file ({known}), got suffix {suffix!r}; rename it")
    placed = list(_line_classes(file) if suffix == ".txt" else _document_classes(file))
    if not placed:
        raise PromptError(f"{file}: expected at least one class, got none; write one per line or entry")
    classes = tuple(entry for _, entry in placed)
    check_distinct(classes, [place for place, _ in placed], shared_synonyms=shared_synonyms)
    return classes


def read_template_file(path: str | os.PathLike[str]) -> tuple[str, ...]:
    r"""Read templates from a UTF-8 text file, one per line.

    Blank lines and lines whose first word is `#` are ignored.

    Args:
        path: the file, of any suffix.

    Returns:
        As `templates_named`.

    Raises:
        PromptError: the file cannot be read or is not UTF-8, or a line is no template or the same as another; the
            message names the line.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "templates.txt")
    ...     _ = file.write_text("a photo of a {}.\na painting of a {}.\n")
    ...     read_template_file(file)
    ('a photo of a {}.', 'a painting of a {}.')
    """
    file = Path(path)
    placed = [(place, line) for place, line in _read_lines(file) if line]
    if not placed:
        raise PromptError(f"{file}: expected at least one template, got none; write one per line, each with {{}}")
    templates = tuple(line for _, line in placed)
    check_templates(templates, [place for place, _ in placed])
    return templates
