"""The command line's arguments: what the words a user typed stand for, checked before a model is loaded."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from fgseg.commands.exit_codes import USAGE
from fgseg.commands.output import Inputs, complain, log_to_stderr
from fgseg.errors import ImageError, OptionError, OutputError

if TYPE_CHECKING:
    from fgseg.prompts.classes import PromptClass
    from fgseg.segmenter import Segmenter

__all__ = [
    "check_region_options",
    "check_resolution",
    "check_writable",
    "find_inputs",
    "given_words",
    "load_segmenter",
    "read_box",
    "read_by_region",
    "read_prompts",
    "read_threshold",
    "result_folders",
    "split_words",
]


def read_prompts(prompt: list[str] | None, classes: Path | None) -> list[str | PromptClass]:
    """The classes of a class file, then those of the prompts."""
    from fgseg.prompts.classes import parse_classes
    from fgseg.prompts.files import read_class_file

    listed: list[str | PromptClass] = [*(read_class_file(classes) if classes else ()), *(prompt or ())]
    if not listed:
        raise OptionError("--prompt: expected at least one, got none; say --prompt red, or --classes FILE")
    return list(parse_classes(listed))


def read_threshold(text: str | None) -> Any:
    """A presence, "auto", or None for the model's own.

    Examples:
        >>> read_threshold("0.25"), read_threshold("auto")
        (0.25, 'auto')
    """
    if text is None or text == "auto":
        return text
    try:
        limit = float(text)
    except ValueError:
        limit = -1.0
    if not 0 <= limit <= 1:
        raise OptionError(f"--threshold: expected a number from 0 to 1 or auto, got {text!r}")
    return limit


def check_resolution(text: str) -> None:
    """Refuse a resolution that is not spelled as one."""
    from fgseg.scoring.resolution import parse_resolution

    if text != "auto":
        parse_resolution(text)


def read_by_region(paths: Sequence[Path], *, always: bool) -> frozenset[Path]:
    """The images that are not read as a whole: tiled TIFFs over 178 megapixels, or all where it is asked for."""
    from fgseg.images.reading import MAX_PIXELS
    from fgseg.large.tiled_tiff import TIFF_SUFFIXES, tiled_hw

    if always:
        return frozenset(paths)
    sizes = {path: tiled_hw(path) for path in paths if path.suffix.lower() in TIFF_SUFFIXES}
    return frozenset(path for path, hw in sizes.items() if hw is not None and hw[0] * hw[1] > MAX_PIXELS)


def check_region_options(
    paths: frozenset[Path], options: dict[str, Any], formats: Sequence[str], *, native: int, reduction: int
) -> None:
    """Refuse, before any work, what an image read by region cannot be given: what needs all of it at once."""
    from fgseg.large.plan import plan_windows
    from fgseg.large.result import check_large_formats
    from fgseg.scoring.resolution import Resolution, parse_resolution

    if not paths:
        if reduction != 1:
            raise OptionError("--reduce: only an image read by region is shrunk; add --by-region, or use --resolution")
        return
    name = sorted(paths)[0]
    usual = {"mode": ("exclusive",), "refine": ("auto", "none"), "max_hole": (0,), "min_area": (0, 1)}
    for option, allowed in usual.items():
        given = options[option]
        if given not in allowed:
            raise OptionError(
                f"--{option.replace('_', '-')}: {name} is read by region, and {given} needs all of it at once; "
                "leave the option out for it"
            )
    if options["threshold"] == "auto":
        raise OptionError(f"--threshold: {name} is read by region, and auto needs all of it at once; say a number")
    check_large_formats(formats)
    text = options["resolution"]
    plan_windows(
        (1, 1), Resolution("slide") if text == "auto" else parse_resolution(text), native=native, reduction=reduction
    )


def read_box(text: str) -> list[float]:
    """A box of four numbers.

    Examples:
        >>> read_box("10,20,200,150")
        [10.0, 20.0, 200.0, 150.0]
    """
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) != 4 or not all(map(isfinite, values)):
        raise OptionError(f"--box: expected LEFT,TOP,RIGHT,BOTTOM in pixels, got {text!r}; say --box 10,20,200,150")
    left, top, right, bottom = values
    if not (0 <= left < right and 0 <= top < bottom):
        raise OptionError(f"--box: expected 0 <= LEFT < RIGHT and 0 <= TOP < BOTTOM, got {text!r}")
    return values


def split_words(values: list[str] | None) -> list[str]:
    """Values that may hold several, between commas.

    Examples:
        >>> split_words(["coco, yolo", "overlay"])
        ['coco', 'yolo', 'overlay']
    """
    return [part.strip() for value in values or () for part in value.split(",") if part.strip()]


def given_words(values: list[str] | None) -> list[str] | None:
    """None where the option was not given; '' alone asks for none at all."""
    return None if values is None else [value for value in values if value.strip()]


def find_inputs(images: Sequence[str]) -> Inputs:
    """What the user names, one source at a time: an empty folder does not keep the others from being done.

    Leaves with a line for each where none of them stands for an image.
    """
    from fgseg._files import absolute_path
    from fgseg.images.find import find_images

    paths: dict[Path, Path] = {}
    refused: list[tuple[str, str]] = []
    for source in images:
        try:
            found = find_images([source] if source else [])  # '' would be the folder one is in
        except (ImageError, OptionError) as error:
            refused.append((source, str(error) if source else "'': expected a file, folder or pattern, got no name"))
        else:
            for path in found:
                paths.setdefault(absolute_path(path), path)
    if not paths:
        for _, why in refused:
            complain(f"error: {why}")
        raise typer.Exit(USAGE)
    return Inputs(tuple(paths.values()), tuple(refused))


def check_writable(out: Path) -> None:
    """Refuse an output folder before the model is loaded, not after the first image."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise OutputError(f"--out: a file stands where the folder {out} should be; choose another") from error
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        reason = getattr(error, "strerror", None) or error
        raise OutputError(f"--out: cannot make the folder {out} ({reason}); choose another") from error
    if not os.access(out, os.W_OK | os.X_OK):
        raise OutputError(f"--out: no permission to write into {out}; choose another folder")


def load_segmenter(
    model: str | None,
    device: str,
    dtype: str,
    recipe: str,
    revision: str | None,
    offline: bool,
    verbose: bool,
) -> Segmenter:
    """The model that was asked for; its log goes to stderr."""
    from fgseg.segmenter import load

    log_to_stderr(logging.INFO if verbose else logging.WARNING)
    seg = load(model, device=device, dtype=dtype, recipe=recipe, revision=revision, offline=offline or None)  # type: ignore[arg-type]
    logging.getLogger("fgseg").info("model %s on %s in %s", seg.encoder.name, seg.encoder.device, seg.encoder.dtype)
    return seg


def result_folders(paths: Sequence[Path], out: Path) -> dict[Path, Path]:
    """A folder of its own for each image: its stem, its name where stems clash, numbered where names do too."""
    stems = Counter(path.stem.casefold() for path in paths)  # not every file system tells A from a
    folders: dict[Path, Path] = {}
    taken: set[str] = set()
    for path in paths:
        is_alone = stems[path.stem.casefold()] == 1 and path.stem.strip(".")  # "...png" has the stem ".."
        base = path.stem if is_alone else path.name
        name, number = base, 1
        while name.casefold() in taken:
            number += 1
            name = f"{base}-{number}"
        taken.add(name.casefold())
        folders[path] = out / name
    return folders
