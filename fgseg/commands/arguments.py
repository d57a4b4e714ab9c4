"""The values of command line arguments, checked before a model is loaded."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from itertools import chain, count
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from fgseg.commands.exit_codes import USAGE
from fgseg.commands.options import ModelOptions, PromptOptions
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
    "load_segmenter",
    "read_box",
    "read_by_region",
    "read_competitors",
    "read_prompts",
    "read_size",
    "read_threshold",
    "result_folders",
    "split_words",
]


def read_prompts(options: PromptOptions) -> list[PromptClass]:
    """The classes of the class file, followed by those of the prompts."""
    from fgseg.prompts.classes import parse_classes
    from fgseg.prompts.files import read_class_file

    listed = [*(read_class_file(options.classes) if options.classes else ()), *(options.prompt or ())]
    if not listed:
        raise OptionError("--prompt: expected at least one, got none; give --prompt red, or --classes FILE")
    return list(parse_classes(listed))


def read_competitors(options: PromptOptions) -> dict[str, Any]:
    """The arguments of `Segmenter.segment` for the words that compete with the classes, and for the templates."""
    background = options.background
    return {
        # None where the option is not given; '' alone means no words at all
        "background": None if background is None else [word for word in background if word.strip()],
        "negatives": [word for word in options.negative or () if word.strip()],
        "templates": options.templates,
    }


def read_threshold(text: str | None) -> Any:
    """A presence from 0 to 1, "auto", or None for the model's own threshold.

    Examples:
        >>> read_threshold("0.25"), read_threshold("auto")
        (0.25, 'auto')
    """
    if text is None or text == "auto":
        return text
    with suppress(ValueError):
        if 0 <= float(text) <= 1:
            return float(text)
    raise OptionError(f"--threshold: expected a number from 0 to 1 or auto, got {text!r}")


def read_size(flag: str, text: str) -> Any:
    """A number of pixels, or "auto".

    Examples:
        >>> read_size("--min-area", "12"), read_size("--min-area", "auto")
        (12, 'auto')
    """
    if text == "auto":
        return text
    if text.isdecimal():
        return int(text)
    raise OptionError(f"{flag}: expected a whole number of pixels from 0, or auto, got {text!r}")


def check_resolution(text: str) -> None:
    """Refuse a text that is not a resolution."""
    from fgseg.scoring.resolution import parse_resolution

    if text != "auto":
        parse_resolution(text)


def read_by_region(paths: Sequence[Path], *, always: bool) -> frozenset[Path]:
    """The images that are read by region: tiled TIFFs over 178 megapixels, or all images if `always`."""
    from fgseg.images.reading import MAX_PIXELS
    from fgseg.images.tiff import TIFF_SUFFIXES
    from fgseg.large.label_tiff import tiled_hw

    if always:
        return frozenset(paths)
    sizes = {path: tiled_hw(path) for path in paths if path.suffix.lower() in TIFF_SUFFIXES}
    return frozenset(path for path, hw in sizes.items() if hw is not None and hw[0] * hw[1] > MAX_PIXELS)


def check_region_options(
    paths: frozenset[Path], options: dict[str, Any], formats: Sequence[str], *, native: int, reduction: int
) -> None:
    """Refuse options that need the whole image at once, if any image is read by region."""
    from fgseg.large.plan import plan_windows
    from fgseg.large.result import check_large_formats
    from fgseg.scoring.resolution import Resolution, parse_resolution

    if not paths:
        if reduction != 1:
            raise OptionError(
                "--reduction: only images read by region are reduced; add --by-region or use --resolution"
            )
        return
    name = sorted(paths)[0]
    allowed = {"mode": ("exclusive",), "refine": ("auto", "none"), "max_hole": (0, "auto"), "min_area": (0, 1, "auto")}
    for option, values in allowed.items():
        if options[option] not in values:
            flag = "--" + option.replace("_", "-")
            raise OptionError(
                f"{flag}: {name} is read by region, which excludes {options[option]}; leave the option out"
            )
    if options["threshold"] == "auto":
        raise OptionError(f"--threshold: {name} is read by region, which excludes auto; give a number")
    check_large_formats(formats)
    text = options["resolution"]
    resolution = Resolution("slide") if text == "auto" else parse_resolution(text)
    plan_windows((1, 1), resolution, native=native, reduction=reduction)


def read_box(text: str) -> list[float]:
    """The corners (left, top, right, bottom) of a box, in pixels.

    Examples:
        >>> read_box("10,20,200,150")
        [10.0, 20.0, 200.0, 150.0]
    """
    try:
        values = [float(number) for number in text.split(",")]
    except ValueError:
        values = []
    if len(values) != 4 or not all(map(isfinite, values)):
        raise OptionError(f"--box: expected LEFT,TOP,RIGHT,BOTTOM in pixels, got {text!r}; give --box 10,20,200,150")
    left, top, right, bottom = values
    if not (0 <= left < right and 0 <= top < bottom):
        raise OptionError(f"--box: expected 0 <= LEFT < RIGHT and 0 <= TOP < BOTTOM, got {text!r}")
    return values


def split_words(values: list[str] | None) -> list[str]:
    """Split each value at its commas.

    Examples:
        >>> split_words(["coco, yolo", "overlay"])
        ['coco', 'yolo', 'overlay']
    """
    return [word.strip() for value in values or () for word in value.split(",") if word.strip()]


def find_inputs(images: Sequence[str]) -> Inputs:
    """The images that files, folders and patterns name, each once.

    A source without images does not stop the others. If no source has an image, the errors are printed and the command
    exits.
    """
    from fgseg._files import absolute_path
    from fgseg.images.find import find_images

    paths: dict[Path, Path] = {}
    refused: list[dict[str, Any]] = []
    for source in images:
        try:
            found = find_images([source] if source else [])  # '' would be the current folder
        except (ImageError, OptionError) as error:
            message = str(error) if source else "'': expected a file, folder or pattern, got no name"
            refused.append({"image": source, "error": message})
        else:
            for path in found:
                paths.setdefault(absolute_path(path), path)
    if not paths:
        for record in refused:
            complain(f"error: {record['error']}")
        raise typer.Exit(USAGE)
    return Inputs(tuple(paths.values()), tuple(refused))


def check_writable(out: Path) -> None:
    """Make the output folder, and refuse it if nothing can be written into it."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise OutputError(f"--out: a file stands where the folder {out} should be; choose another") from error
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        reason = getattr(error, "strerror", None) or error
        raise OutputError(f"--out: cannot make the folder {out} ({reason}); choose another") from error
    if not os.access(out, os.W_OK | os.X_OK):
        raise OutputError(f"--out: no permission to write into {out}; choose another folder")


def load_segmenter(options: ModelOptions) -> Segmenter:
    """Load the model, and send its log to stderr."""
    from fgseg.segmenter import load

    log_to_stderr(logging.INFO if options.verbose else logging.WARNING)
    given = {**asdict(options), "offline": options.offline or None}
    del given["verbose"]
    seg = load(**given)
    logging.getLogger("fgseg").info("model %s on %s in %s", seg.encoder.name, seg.encoder.device, seg.encoder.dtype)
    return seg


def result_folders(paths: Sequence[Path], out: Path) -> dict[Path, Path]:
    """A separate output folder for each image.

    The folder has the stem of the file; the whole file name if stems clash, with a number if file names clash too.
    Case is ignored, since some file systems ignore it.
    """
    stems = Counter(path.stem.casefold() for path in paths)
    folders: dict[Path, Path] = {}
    taken: set[str] = set()
    for path in paths:
        has_own_stem = stems[path.stem.casefold()] == 1 and path.stem.strip(".")  # "...png" has the stem ".."
        base = path.stem if has_own_stem else path.name
        names = chain([base], (f"{base}-{number}" for number in count(2)))
        name = next(name for name in names if name.casefold() not in taken)
        taken.add(name.casefold())
        folders[path] = out / name
    return folders
