"""Class files and template files, read into plain rows that know their line or place."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fgseg._words import describe, is_color, places_in, quote, split_words, strip_word
from fgseg.errors import PromptError

__all__ = ["ClassRow", "read_class_rows", "read_lines"]

_CLASS_SUFFIXES = (".txt", ".json", ".yaml", ".yml")
_ROW_KEYS = ("name", "prompts", "color")
_HEX_COLOR = re.compile(r"#[0-9a-fA-F]{6}")


@dataclass(frozen=True)
class ClassRow:
    """One class of a file, and what messages call the place where it stands."""

    place: str
    name: str
    prompts: tuple[str, ...]
    color: tuple[int, int, int] | None = None


def read_class_rows(file: Path) -> list[ClassRow]:
    """The classes of a .txt, .json or .yaml file, in order, at least one; formats as in `read_class_file`."""
    suffix = file.suffix.lower()
    if suffix not in _CLASS_SUFFIXES:
        known = ", ".join(_CLASS_SUFFIXES)
        raise PromptError(f"{file}: expected a class file ({known}), got suffix {suffix!r}; rename it")
    rows = list(_line_rows(file)) if suffix == ".txt" else list(_document_rows(file))
    if not rows:
        raise PromptError(f"{file}: expected at least one class, got none; write one a line or entry")
    return rows


def read_lines(file: Path) -> Iterator[tuple[str, str]]:
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


def _line_rows(file: Path) -> Iterator[ClassRow]:
    blank = ""
    for place, line in read_lines(file):
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
            yield ClassRow(place, words[0], words)


def _document_rows(file: Path) -> Iterator[ClassRow]:
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
        yield _entry_row(f"{file}, entry {number}", entry)


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


def _entry_row(place: str, entry: object) -> ClassRow:
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
    return ClassRow(place, name, words, _parse_color(place, entry["color"]) if "color" in entry else None)


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
