"""Class files and template files. Errors name the line or entry of the file."""

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from fgseg._checks import describe
from fgseg.errors import FgsegError, PromptError
from fgseg.prompts.classes import PromptClass, SharedSynonyms, check_distinct, make_class
from fgseg.prompts.words import check_templates, is_color, places_in, quote, split_words, strip_word

__all__ = ["read_class_file", "read_template_file"]

_Placed = tuple[str, PromptClass]  # a class and, before it, its place in the file for messages
_Line = tuple[str, str]  # the place and the text of a class

_CLASS_SUFFIXES = (".txt", ".json", ".yaml", ".yml")
_ENTRY_KEYS = ("name", "prompts", "color", "index")
_CVAT_KEYS = ("id", "type", "attributes", "sublabels", "elements", "svg", "parent_id", "has_parent")
_HEX_COLOR = re.compile(r"#[0-9a-fA-F]{6}")
_INDEX = re.compile(r"[0-9]{1,9}")
_NUMBER = re.compile(r"([0-9]{1,9})\s+")
# "0: cat" and "[0] cat", but neither "16:9" nor "7-inch"
_SIGNED_NUMBER = re.compile(r"\[?([0-9]{1,9})(?:\]|\s*(?:[:.)=,|](?![0-9])|-(?=\s)|\t))\s*")
_TRAILING_NUMBERS = re.compile(r"[:=\t]\s*[0-9][0-9,\s]*:*$")  # a label after the name, or CVAT's colors


def _read_lines(file: Path) -> Iterator[tuple[str, str]]:
    """The place and the stripped text of every line of a UTF-8 file, with blank lines and without comments."""
    for number, line in enumerate(_read_text(file).split("\n"), start=1):
        if line.split(maxsplit=1)[:1] != ["#"]:
            yield f"{file}, line {number}", line.strip()


def _read_text(file: Path) -> str:
    """The text of a UTF-8 file without a byte order mark and with line feeds as line ends."""
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        byte = error.object[error.start]
        raise PromptError(
            f"{file}, line {line}: expected UTF-8 text, got byte 0x{byte:02x}; save the file as UTF-8"
        ) from error
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        raise PromptError(f"{file}: cannot be read ({getattr(error, 'strerror', error)}); check the path") from error


def _line_classes(file: Path) -> Iterator[_Placed]:
    for place, line in _without_numbers(list(_class_lines(file))):
        if "\t" in line:
            raise PromptError(
                f"{place}: expected commas between synonyms, got a tab in {quote(line)}; write one class per line, "
                "the names alone"
            )
        words = split_words(place, line)
        yield place, make_class(place, words[0], words)


def _class_lines(file: Path) -> Iterator[_Line]:
    """The place and the text of every line with a class."""
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
            yield place, line


def _without_numbers(lines: Sequence[_Line]) -> list[_Line]:
    """Lines without their numbers, if they are numbered from 0 in order; lines without numbers as they are.

    Lines are numbered if one begins with a number and a sign, such as "0: cat", or if all begin with a number and a
    space, so that "2 door car" among other names is a name.
    """
    signed = [_SIGNED_NUMBER.match(line) for _, line in lines]
    found = [match or _NUMBER.match(line) for match, (_, line) in zip(signed, lines, strict=True)]
    if lines and all(_TRAILING_NUMBERS.search(line) for _, line in lines):
        place, line = lines[0]
        raise PromptError(
            f"{place}: expected a name without numbers, got {quote(line)}; write one class per line in label order, or "
            'a .json file for colors: [{"name": "cat", "color": [255, 0, 0]}]'
        )
    if not (any(signed) or all(found)):
        return list(lines)
    for number, ((place, line), match) in enumerate(zip(lines, found, strict=True)):
        if match is None or int(match[1]) != number:
            raise PromptError(
                f"{place}: expected number {number} in a file of numbered classes, which begins with 0, got "
                f"{quote(line)}; write one class per line in label order without numbers, or a .json file for names "
                "that begin with a number"
            )
    return [(place, line[match.end() :]) for (place, line), match in zip(lines, found, strict=True) if match]


def _document_classes(file: Path) -> Iterator[_Placed]:
    document = _load_document(file, _read_text(file))
    entries = _listed(file, document)
    if all(isinstance(entry, str) for _, entry in entries):
        entries = _without_numbers(entries)
    for index, (place, entry) in enumerate(entries):
        named = {"name": _one_name(place, entry)} if isinstance(entry, str) else entry
        yield place, _entry_class(place, index, named)


def _listed(file: Path, document: object) -> list[tuple[str, Any]]:
    """The place and the entry of each class, from any form of document that is read."""
    if isinstance(document, Mapping) and "classes" in document:
        _check_keys(str(file), document, ("classes", "unlabelled"))
        document = document["classes"]
    if isinstance(document, Mapping):
        if "names" in document:  # YOLO's data.yaml; its other keys are about images
            return _yolo_names(file, document)
        if document and all(_is_index(key) for key in document):
            return _by_index(str(file), document)
        if document:
            return _by_name(file, document)
    if not isinstance(document, list):
        raise PromptError(
            f'{file}: expected a list of classes or {{"classes": [...]}}, got {describe(document)}; '
            'write [{"name": "red"}]'
        )
    return [(f"{file}, entry {number}", entry) for number, entry in enumerate(document, start=1)]


def _yolo_names(file: Path, document: Mapping[Any, Any]) -> list[tuple[str, Any]]:
    names = document["names"]
    if isinstance(names, Mapping):
        listed = _by_index(f"{file}, names", names)
    elif isinstance(names, list):
        listed = [(f"{file}, names[{index}]", name) for index, name in enumerate(names)]
    else:
        raise PromptError(f"{file}, names: expected a list of names, got {describe(names)}; write names: [cat, dog]")
    if document.get("nc", len(listed)) != len(listed):
        raise PromptError(
            f"{file}: expected as many names as nc says, {document['nc']!r:.20}, got {len(listed)}; correct one"
        )
    return listed


def _by_index(place: str, names: Mapping[Any, Any]) -> list[tuple[str, Any]]:
    """The names in the order of their numbers, which are the keys."""
    by_number = {int(key): name for key, name in names.items() if _is_index(key)}
    if len(by_number) < len(names) or sorted(by_number) != list(range(len(names))):
        found = ", ".join(map(str, names))
        raise PromptError(
            f"{place}: expected the numbers from 0 to {len(names) - 1} as keys, got {found:.80}; write a list of names "
            "in label order"
        )
    return [(f"{place}[{number}]", by_number[number]) for number in range(len(names))]


def _is_index(key: object) -> bool:
    return type(key) is int or (isinstance(key, str) and bool(_INDEX.fullmatch(key)))


def _by_name(file: Path, document: Mapping[Any, Any]) -> list[tuple[str, Any]]:
    """The classes of an object whose keys are their names and whose values are their words, one or a list."""
    if "name" in document:
        raise PromptError(f"{file}: expected a list of classes, got one class; put it into brackets: [{{...}}]")
    return [(f"{file}, {quote(str(name))}", _named(file, name, words)) for name, words in document.items()]


def _named(file: Path, name: Any, words: Any) -> dict[str, Any]:
    """The class of a name and its words; a number or a color in place of words is refused."""
    listed = [words] if isinstance(words, str) else words
    is_listed = isinstance(listed, list) and listed and all(isinstance(word, str) for word in listed)
    if not is_listed or any(_INDEX.fullmatch(word) or _HEX_COLOR.fullmatch(word) for word in listed):
        entry = json.dumps({"name": str(name)}, ensure_ascii=False)
        raise PromptError(
            f"{file}, {quote(str(name))}: expected words, or a list of words, got {describe(words)}; write the "
            f'words, or a list of classes in label order: [{entry:.200}, ...], which may have a "color" each'
        )
    return {"name": name, "prompts": listed}


def _one_name(place: str, text: str) -> str:
    """The text itself. One with a comma is refused, because it may be a comma in a name or between synonyms."""
    if "," in text:
        words = [word.strip() for word in text.split(",")]
        entry = json.dumps({"name": words[0], "prompts": words}, ensure_ascii=False)
        raise PromptError(f"{place}: expected one name, got {quote(text)}; write {entry:.200}")
    return text


class _PlainLoader(yaml.SafeLoader):
    """Refuses aliases: a small file of aliases to aliases is a list that fits no memory once it is written out."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem="an alias; write the words out", problem_mark=event.start_mark)
        return super().compose_node(parent, index)


def _load_document(file: Path, text: str) -> object:
    try:
        document: object = json.loads(text) if file.suffix.lower() == ".json" else yaml.load(text, _PlainLoader)
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


def _entry_class(place: str, index: int, entry: object) -> PromptClass:
    if not isinstance(entry, Mapping):
        raise PromptError(f'{place}: expected a class, got {describe(entry)}; write {{"name": "red"}}')
    if "attributes" in entry:  # CVAT's labels; an automatic color is empty
        entry = {
            key: value for key, value in entry.items() if key not in _CVAT_KEYS and not (key == "color" and not value)
        }
    _check_keys(place, entry, _ENTRY_KEYS)
    if "name" not in entry:
        raise PromptError(f"{place}: expected a name, got only {', '.join(entry) or 'nothing'}; add one")
    if entry.get("index", index) != index:
        raise PromptError(
            f"{place}, index: expected {index}, got {describe(entry['index'])}; list classes in label order"
        )
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
    `#ff0000` is a query word. A semicolon or a tab is refused, because some projects put it between synonyms and the
    line would become one query word. Numbers before the names (`0: cat`) are left out if they count from 0 in order;
    other numbers are refused.

    `.json`, `.yaml`, `.yml`: a list of `{"name": ..., "prompts": [...], "color": ...}`, or that list under the key
    `classes`, as in the classes.json of a result. `prompts` are the query words, `[name]` if left out; commas in them
    have no meaning. `color` is `[r, g, b]` or `"#rrggbb"` (with quotes in YAML, where `#` begins a comment). Also read
    are a list of names, words by name (`{"mug": ["mug", "cup"]}`), names by number (`{"0": "cat"}`), YOLO's data.yaml
    and CVAT's labels.

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
    try:
        placed = list(_line_classes(file) if suffix == ".txt" else _document_classes(file))
    except FgsegError:
        raise
    except (RecursionError, ValueError) as error:  # of a repr: lists in lists without end, or thousands of digits
        raise PromptError(f"{file}: not a list of classes ({error}); write names") from error
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
