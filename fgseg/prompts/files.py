"""Class files and template files, read into plain rows that know their line or place."""

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from fgseg._checks import describe
from fgseg.errors import PromptError
from fgseg.prompts.classes import PromptClass, SharedPrompts, check_distinct, make_class
from fgseg.prompts.words import check_templates, is_color, places_in, quote, split_words, strip_word

__all__ = ["read_class_file", "read_template_file"]

_Placed = tuple[str, PromptClass]  # what messages call the place in the file, and the class that stands there

_CLASS_SUFFIXES = (".txt", ".json", ".yaml", ".yml")
_ROW_KEYS = ("name", "prompts", "color")
_HEX_COLOR = re.compile(r"#[0-9a-fA-F]{6}")


def _read_lines(file: Path) -> Iterator[tuple[str, str]]:
    """Place and stripped text of every line of a UTF-8 file, blank ones too, but no comments."""
    for number, line in enumerate(_read_text(file).split("\n"), start=1):
        if line.split(maxsplit=1)[:1] != ["#"]:
            yield f"{file}, line {number}", line.strip()


def _read_text(file: Path) -> str:
    """Text of a UTF-8 file without byte order mark, a line feed for every line end."""
    try:
        data = file.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        raise PromptError(f"{file}: cannot be read ({getattr(error, 'strerror', error)}); check the path") from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # error.object, not data: its positions count from behind a byte order mark.
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
        raise PromptError(f"{file}, line {error.lineno}: not JSON ({error.msg}); correct it there") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)  # a control character's error has no mark
        place = f"{file}, line {mark.line + 1}" if mark else str(file)
        problem = getattr(error, "problem", None) or getattr(error, "reason", error)
        raise PromptError(f"{place}: not YAML ({problem}); correct it there") from error
    # YAML's impossible dates, booleans and times by their tags; nesting without end
    except (ValueError, RecursionError, KeyError, AttributeError, TypeError) as error:
        raise PromptError(f"{file}: not a list of classes ({error}); put odd names in quotes") from error
    return document


def _entry_class(place: str, entry: object) -> PromptClass:
    if not isinstance(entry, Mapping):
        raise PromptError(f'{place}: expected a class, got {describe(entry)}; write {{"name": "red"}}')
    _check_keys(place, entry, _ROW_KEYS)
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
        # Not even null: in YAML that is what an unquoted #ff0000 becomes.
        raise PromptError(
            f'{place}, color: expected [r, g, b] from 0 to 255 or "#rrggbb", got {describe(value)}; '
            "leave the key out for none; YAML needs the quotes"
        )
    return red, green, blue


def _check_keys(place: str, entry: Mapping[Any, Any], known: Sequence[str]) -> None:
    unknown = [str(key) for key in entry if key not in known]
    if unknown:
        raise PromptError(f"{place}: unknown key {', '.join(unknown)}; the known ones are {', '.join(known)}")


def read_class_file(
    path: str | os.PathLike[str], *, shared_prompts: SharedPrompts = "refuse"
) -> tuple[PromptClass, ...]:
    r"""Classes from a file, in label order: the first is label 0.

    UTF-8, any line ends, any number of classes.

    `.txt`: a line a class, written as for `parse_classes`. Blank lines at the end are ignored; one above a
    class is refused, for it may stand for a label. A line whose first word is `#` is a comment; `#ff0000` is
    a prompt. A semicolon is refused: some projects put it between synonyms, and it would all be one prompt.

    `.json`, `.yaml`, `.yml`: a list of `{"name": ..., "prompts": [...], "color": ...}`, or that list under
    the one key `classes`. `prompts` is `[name]` when left out, and commas in it mean nothing. `color` is
    `[r, g, b]` or `"#rrggbb"` (in YAML in quotes, for `#` begins a comment there).

    Args:
        path: the file; its suffix tells the format.
        shared_prompts: as in `parse_classes`.

    Returns:
        One class an entry, at least one.

    Raises:
        PromptError: a file that is missing, unreadable, of another suffix or not of this form; the message
            has the line, or the entry's place in the list. Also what `parse_classes` refuses.
        OptionError: another word for `shared_prompts`.

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
    check_distinct(classes, [place for place, _ in placed], shared_prompts=shared_prompts)
    return classes


def read_template_file(path: str | os.PathLike[str]) -> tuple[str, ...]:
    r"""Templates from a UTF-8 text file, one a line.

    Blank lines, and lines whose first word is `#`, are ignored.

    Args:
        path: the file, of any suffix.

    Returns:
        At least one template, each with exactly one "{}", no two the same.

    Raises:
        PromptError: a file that cannot be read or is not UTF-8, or a line that is no template; the message
            has the line.

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
        raise PromptError(f"{file}: expected at least one template, got none; write one a line, each with {{}}")
    templates = tuple(line for _, line in placed)
    check_templates(templates, [place for place, _ in placed])
    return templates
