"""The folder of a result: run.json lists the files, and the next result replaces these files and no others."""

from __future__ import annotations

import json
import os
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from fgseg._files.names import absolute_path, one_line, reason
from fgseg._files.writers import write_text
from fgseg.errors import OutputError
from fgseg.segmentation.summary import json_text

__all__ = [
    "RUN_FILE",
    "Part",
    "SavedResult",
    "is_same_image",
    "mark_unfinished",
    "path_from",
    "read_saved",
    "save_parts",
]

RUN_FILE = "run.json"


@dataclass(frozen=True)
class Part:
    """Files of a result that are written together.

    Attributes:
        names: of the files, relative to the folder, with slashes.
        write: writes them into a folder.
    """

    names: tuple[str, ...]
    write: Callable[[Path], object]


@dataclass(frozen=True)
class SavedResult:
    """What the run.json of a folder says.

    Attributes:
        image: absolute path of the image; None for an array, and if the file is no record of an image.
        files: names of the files that were written, relative to the folder, with slashes.
        is_finished: whether all of them were written.
        run: the content of run.json; empty if it is no JSON object.
    """

    image: Path | None
    files: tuple[str, ...]
    is_finished: bool
    run: Mapping[str, Any]


def save_parts(
    folder: Path, parts: Sequence[Part], settings: Mapping[str, Any], record: Mapping[str, Any] | None = None
) -> list[Path]:
    """Write a result in place of the one that the folder holds.

    While the files are written, run.json calls the result unfinished and lists the old and the new files. So a run that
    is stopped leaves no file that the next one does not know. The files of an earlier result are removed; those of this
    very result, which has the same settings, stay.

    Args:
        folder: output folder, created if needed.
        parts: the files to write, besides run.json.
        settings: of the result, for run.json; "image" names the image.
        record: further entries of run.json.

    Returns:
        The files written, run.json last.

    Raises:
        TypeError: settings that JSON cannot hold; no file is written.
        OutputError: the folder cannot be written.
    """
    written = list(dict.fromkeys(name for part in parts for name in part.names))
    earlier = read_saved(folder)
    made_with = {**settings, **(record or {}), "image_path": path_from(folder, settings.get("image"))}
    kept = _files_of_the_same(earlier, made_with)
    text = json_text({**made_with, "files": [*dict.fromkeys([*kept, *written]), RUN_FILE]})
    mark_unfinished(folder, settings.get("image"), written)
    _remove(folder, set(earlier.files if earlier else ()) - {*kept, *written, RUN_FILE})
    for part in parts:
        part.write(folder)
    write_text(folder / RUN_FILE, text)
    return [folder / name for name in (*written, RUN_FILE)]


def mark_unfinished(folder: Path, image: str | None, names: Sequence[str]) -> None:
    """Say in run.json that a result is being written, and which files may be there until it is finished.

    Raises:
        OutputError: the folder cannot be written.
    """
    earlier = read_saved(folder)
    files = dict.fromkeys([*(earlier.files if earlier else ()), *names, RUN_FILE])
    named = {"image": image, "image_path": path_from(folder, image), "unfinished": True, "files": list(files)}
    write_text(folder / RUN_FILE, json_text(named))


def read_saved(folder: Path) -> SavedResult | None:
    """What the run.json of a folder says; None if there is none.

    Raises:
        OutputError: it cannot be read.
    """
    try:
        text = (folder / RUN_FILE).read_text(encoding="utf-8", errors="surrogateescape")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        raise OutputError(
            f"{one_line(folder / RUN_FILE)}: cannot be read ({reason(error)}); choose another folder"
        ) from error
    run: Any = None
    with suppress(ValueError):
        run = json.loads(text)
    run = run if isinstance(run, dict) else {}
    path, files = run.get("image_path"), run.get("files")
    return SavedResult(
        absolute_path(folder / path) if isinstance(path, str) else None,
        tuple(name for name in files if isinstance(name, str)) if isinstance(files, list) else (),
        "image_path" in run and not run.get("unfinished"),
        run,
    )


def path_from(folder: Path, image: str | None) -> str | None:
    """The path of an image file as seen from a folder, with slashes; None for an array.

    It is absolute where there is no relative one, between the drives of Windows. Links in folders are followed, as a
    reader of the folder's files does; the image keeps its own name.
    """
    if image is None:
        return None
    path = absolute_path(Path(image))
    with suppress(ValueError):
        path = Path(os.path.relpath(path, folder.resolve()))
    return path.as_posix()


def is_same_image(one: Path, other: Path) -> bool:
    """Whether two paths name one file; the Unicode form of a name makes no difference."""
    first, second = (unicodedata.normalize("NFC", str(absolute_path(path))) for path in (one, other))
    return first == second


def _files_of_the_same(earlier: SavedResult | None, made_with: Mapping[str, Any]) -> list[str]:
    """The files of an earlier saving of the very same result."""
    if earlier is None or not earlier.is_finished:
        return []
    told = {name: value for name, value in earlier.run.items() if name != "files"}
    is_same = told == json.loads(json_text(made_with))
    return [name for name in earlier.files if name != RUN_FILE] if is_same else []


def _remove(folder: Path, names: set[str]) -> None:
    """Remove files of an earlier result, and the folders that they leave empty; never anything outside the folder."""
    root = folder.resolve()
    for name in sorted(names):
        path = folder / PurePosixPath(name)
        if not path.parent.resolve().is_relative_to(root) or not (path.is_file() or path.is_symlink()):
            continue
        try:
            path.unlink()
        except OSError as error:
            raise OutputError(
                f"{one_line(path)}: cannot be removed ({reason(error)}), and it is of an earlier result; "
                "remove it, or choose another folder"
            ) from error
        with suppress(OSError):  # other files are in it
            if path.parent.resolve() != root:
                path.parent.rmdir()
