"""The folder of each image's result: its name, whose result it holds, and whether that result is still right."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from fgseg.commands.options import ReportOptions, RunOptions
from fgseg.commands.terminal.output import SOME_FAILED, Inputs, complain, images_in_words, table, to_json
from fgseg.errors import OptionError, OutputError

if TYPE_CHECKING:
    from fgseg.segmenter import Segmenter

__all__ = ["check_free", "folder_name", "plan", "remaining", "request_digest", "result_folders"]


def folder_name(path: Path, root: Path) -> Path:
    """The folder of an image's result, relative to the output folder; it depends on the image's own path alone.

    It is the path below `root`, without the suffix ".png". Any other suffix stays, so that images of one stem never
    share a folder. ".png" stays too where the stem ends in a picture's suffix: "a.jpg.png" is not "a.jpg". The Unicode
    form of a name makes no difference.

    Args:
        path: the image.
        root: the folder that it is named from; an image outside is named by its file name.

    >>> [folder_name(Path("photos", *names), Path("photos")).as_posix() for names in (["a.png"], ["may", "a.jpg"])]
    ['a', 'may/a.jpg']
    """
    from fgseg.images.find import IMAGE_SUFFIXES

    relative = Path(path.name)
    if path.is_relative_to(root) and ".." not in path.relative_to(root).parts:
        relative = path.relative_to(root)
    stem = relative.stem
    is_plain = relative.suffix == ".png" and stem.strip(".") and Path(stem).suffix.lower() not in IMAGE_SUFFIXES
    return Path(unicodedata.normalize("NFC", str(relative.with_name(stem) if is_plain else relative)))


def result_folders(names: Mapping[Path, Path], out: Path) -> dict[Path, Path]:
    """The folder of each image's result.

    Args:
        names: image -> the folder's name, relative to `out`.
        out: the output folder, which exists.

    Raises:
        OptionError: two images would go to one folder.
    """
    folders = {path: out / name for path, name in names.items()}
    ignores_case = _ignores_case(out)
    owners: dict[str, Path] = {}
    for path, folder in folders.items():
        key = str(folder).casefold() if ignores_case else str(folder)
        other = owners.setdefault(key, path)
        if other != path:
            raise OptionError(
                f"--out: the results of {other} and {path} would both go to {folder}; "
                "add --root FOLDER, a folder above both, to keep their paths, or run them apart"
            )
    return folders


def check_free(folders: Mapping[Path, Path]) -> None:
    """Refuse folders that hold the result of another image than theirs.

    Raises:
        OutputError: one or more do.
    """
    from fgseg.segmentation.saving import is_same_image, read_saved

    taken: list[str] = []
    for path, folder in folders.items():
        saved = read_saved(folder)
        if saved is not None and (saved.image is None or not is_same_image(saved.image, path)):
            holder = saved.run.get("image") or "something else"
            taken.append(f"{folder} holds the result of {holder}, not of {path}")
    if taken:
        more = f" (and {len(taken) - 1} more folders)" if len(taken) > 1 else ""
        raise OutputError(f"--out: {taken[0]}{more}; add --overwrite to replace it, or choose another folder")


def request_digest(seg: Segmenter, asked: Mapping[str, Any]) -> str:
    """SHA-256 of all that a result depends on besides the image: the model, the versions, and what was asked for."""
    from fgseg.segmentation.run_record import RunRecord, model_settings

    made_by = dict(RunRecord(model_settings(seg.encoder, seg.encoder.digest)))
    everything = {"model": made_by, "defaults": asdict(seg.defaults), "asked": dict(asked)}
    return hashlib.sha256(json.dumps(everything, sort_keys=True, default=str).encode()).hexdigest()


def remaining(
    inputs: Inputs, folders: Mapping[Path, Path], request: str, options: RunOptions, *, quiet: bool
) -> tuple[Inputs, dict[Path, dict[str, Any]]]:
    """The images to work on, and the entries of run.json by which the next run knows their results.

    With `--skip-existing`, an image is left out if its folder holds its whole result for the same request, and the
    image has not changed since. The number of these is printed, unless `quiet`.
    """
    records = {path: {"request": request, "image_stamp": _image_stamp(path)} for path in inputs.paths}
    if not options.skip_existing:
        return inputs, records
    left = tuple(path for path in inputs.paths if not _is_finished(path, folders[path], records[path]))
    skipped = len(inputs.paths) - len(left)
    if not quiet:
        counted = f"{skipped} of {len(inputs.paths)} images skipped"
        complain(f"{counted}: their results are finished and of the same settings")
    return replace(inputs, paths=left), records


def plan(
    inputs: Inputs, folders: Mapping[Path, Path], files: Callable[[Path], Sequence[str]], report: ReportOptions
) -> None:
    """Print which images would be read, what their folders hold, and which files would be written.

    Args:
        inputs: the images.
        folders: image -> the folder of its result.
        files: the names of the files of an image's result, relative to its folder.
        report: whether a table or lines of JSON are printed.

    Raises:
        Exit: there is no such image, which a run would report in the same way.
    """
    missing = [{"image": str(path), "error": f"{path}: there is no such file"} for path in folders if not path.exists()]
    refused = [*inputs.refused, *missing]
    for record in refused:
        complain(f"error: {record['error']}")
        if report.as_json:
            typer.echo(to_json(record))
    cells: list[tuple[str, ...]] = []
    for path, folder in ((path, folder) for path, folder in folders.items() if path.exists()):
        names, held = files(path), _content(folder)
        if report.as_json:
            paths = [str(folder / name) for name in names]
            typer.echo(to_json({"image": str(path), "folder": str(folder), "holds": held, "files": paths}))
        cells.append((str(path), str(folder), held, ", ".join(names)))
    if not report.quiet:
        if cells and not report.as_json:
            typer.echo(table(("image", "folder", "holds", "files"), cells))
        complain(f"dry run: nothing was loaded or written; {images_in_words(len(cells))} would be read")
    if refused:
        raise typer.Exit(SOME_FAILED)


def _content(folder: Path) -> str:
    """What the folder of a result holds now: nothing, a finished result or an unfinished one."""
    from fgseg.segmentation.saving import read_saved

    saved = read_saved(folder)
    return "nothing" if saved is None else "a result" if saved.is_finished else "an unfinished result"


def _image_stamp(path: Path) -> list[int] | None:
    """Size and time of the last change of a file, by which a change of the image is noticed; None without a file."""
    with suppress(OSError, ValueError):  # ValueError: a null character in the name
        status = path.stat()
        return [status.st_size, status.st_mtime_ns]
    return None


def _is_finished(path: Path, folder: Path, record: Mapping[str, Any]) -> bool:
    from fgseg.segmentation.saving import is_same_image, read_saved

    saved = read_saved(folder)
    if saved is None or not saved.is_finished or saved.image is None or not is_same_image(saved.image, path):
        return False
    is_current = all(saved.run.get(name) == value for name, value in record.items())
    return is_current and all((folder / name).is_file() for name in saved.files)


def _ignores_case(folder: Path) -> bool:
    """Whether the file system takes upper and lower case for the same."""
    other = folder.absolute().with_name(folder.absolute().name.swapcase())
    return other.name != folder.absolute().name and other.exists() and other.samefile(folder)
