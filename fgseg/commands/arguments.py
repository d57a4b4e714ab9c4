"""The values of command line arguments, checked before a model is loaded."""

from __future__ import annotations

import glob
import logging
import os
import shlex
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, fields
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from fgseg.commands.options import MaskOptions, ModelOptions, PromptOptions, ReadOptions, RunOptions, ScoreOptions
from fgseg.commands.result_folders import folder_name
from fgseg.commands.terminal.output import USAGE, Inputs, complain
from fgseg.commands.terminal.status import STATUS
from fgseg.errors import DiskError, ImageError, OptionError, OutputError

if TYPE_CHECKING:
    from fgseg.prompts.classes import PromptClass
    from fgseg.segmenter import Segmenter

__all__ = [
    "check_region_options",
    "check_regions",
    "check_resolution",
    "check_writable",
    "comma_notes",
    "find_inputs",
    "load_segmenter",
    "model_arguments",
    "picture_to_open",
    "read_box",
    "read_by_region",
    "read_competitors",
    "read_mask_options",
    "read_prompts",
    "read_reading",
    "region_stamps",
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


def comma_notes(prompts: Sequence[str]) -> list[str]:
    """How prompts with commas are written as several classes, since a comma joins synonyms of one class.

    Examples:
        >>> comma_notes(["red, dark blue", "white"])
        ["'red, dark blue' is one class with synonyms; for a class each: -p red -p 'dark blue'"]
    """
    notes = []
    for prompt in prompts:
        words = split_words([prompt])
        if len(words) > 1 and "\\," not in prompt:
            separate = " ".join(f"-p {shlex.quote(word)}" for word in words)
            notes.append(f"{prompt!r} is one class with synonyms; for a class each: {separate}")
    return notes


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


def check_regions(regions: Sequence[str], recipe: str, *, vote: bool) -> None:
    """Refuse a vote without regions, regions that nothing uses, and names that are neither a file nor known."""
    from fgseg.guides.region_maps import is_computed
    from fgseg.guides.votes import check_vote

    try:
        check_vote(has_regions=bool(regions), vote=vote, recipe=recipe)
    except OptionError as error:
        flag, given = ("--vote", "no --regions") if vote else ("--regions", "no --vote")
        raise OptionError(f"{flag}: expected --regions and --vote together, got {given}; give both or none") from error
    for one in regions:
        if not (one == "none" or is_computed(one) or Path(one).exists()):
            raise OptionError(
                "--regions: expected superpixels, eomt, a label PNG, a JSON file or a folder of these, got "
                f"{one!r:.80}, which is not there"
            )


def region_stamps(regions: str | None) -> list[list[str | int]]:
    """Name, size and time of the last change of the files of regions, by which a change is noticed."""
    if not regions:
        return []
    path = Path(regions)
    folder, files = (path, sorted(path.rglob("*"))) if path.is_dir() else (path.parent, [path])
    stats = [(file, file.stat()) for file in files if file.is_file()]
    return [[file.relative_to(folder).as_posix(), stat.st_size, stat.st_mtime_ns] for file, stat in stats]


def read_mask_options(options: MaskOptions, scoring: ScoreOptions) -> dict[str, Any]:
    """The arguments of `Segmenter.segment` for how an image is scored and how scores become masks."""
    from fgseg.segmentation.result import checked_sizes

    smallest, largest_hole = checked_sizes(
        options.mode,
        min_area=read_size("--min-area", options.min_area),
        max_hole=read_size("--max-hole", options.max_hole),
    )
    check_resolution(scoring.resolution)
    return {
        **asdict(options),
        "threshold": read_threshold(options.threshold),
        **{field.name: getattr(scoring, field.name) for field in fields(ScoreOptions)},
        "min_area": smallest,
        "max_hole": largest_hole,
    }


def check_resolution(text: str) -> None:
    """Refuse a text that is not a resolution."""
    from fgseg.scoring.resolution import parse_resolution

    if text != "auto":
        parse_resolution(text)


def read_by_region(paths: Sequence[Path], *, always: bool) -> frozenset[Path]:
    """The images that are read by region: tiled TIFFs over 178 megapixels, or all images if `always`."""
    from fgseg.images.reading import MAX_PIXELS
    from fgseg.images.tiff import TIFF_SUFFIXES

    if always:
        return frozenset(paths)
    tiffs = [path for path in paths if path.suffix.lower() in TIFF_SUFFIXES]
    if not tiffs:
        return frozenset()
    from fgseg.large.label_tiff import tiled_hw

    sizes = {path: tiled_hw(path) for path in tiffs}
    return frozenset(path for path, hw in sizes.items() if hw is not None and hw[0] * hw[1] > MAX_PIXELS)


def check_region_options(
    paths: frozenset[Path], options: dict[str, Any], formats: Sequence[str], *, native: int, reduction: int
) -> None:
    """Refuse options that need the whole image at once, if any image is read by region."""
    if not paths:
        if reduction != 1:
            raise OptionError(
                "--reduction: only images read by region are reduced; add --by-region or use --resolution"
            )
        return
    from fgseg.large.plan import plan_windows
    from fgseg.large.result import check_large_formats
    from fgseg.scoring.resolution import Resolution, parse_resolution

    name = sorted(paths)[0]
    allowed: dict[str, tuple[Any, ...]] = {
        "mode": ("exclusive",), "refine": ("auto", "none"), "propagate": ("none",), "vote": (False,),
        "max_hole": (0, "auto"), "min_area": (0, 1, "auto"),
    }  # fmt: skip
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


def read_reading(options: ReadOptions) -> dict[str, Any]:
    """The arguments of `fgseg.images.read_picture`.

    Examples:
        >>> read_reading(ReadOptions(bands="3,2,1", stretch="2,98"))
        {'bands': (3, 2, 1), 'stretch': (2.0, 98.0)}
    """
    from fgseg.images.levels import check_stretch
    from fgseg.images.samples import band_numbers

    bands = stretch = None
    if options.bands is not None:
        try:
            bands = band_numbers([int(number) for number in options.bands.split(",")])
        except ValueError as error:  # an OptionError is one too
            raise OptionError(
                "--bands: expected one number (grey) or three (red, green, blue), counted from 1, "
                f"got {options.bands!r}; give --bands 3,2,1"
            ) from error
    if options.stretch is not None:
        try:
            stretch = check_stretch([float(number) for number in options.stretch.split(",")])
        except ValueError as error:
            raise OptionError(
                "--stretch: expected two percentiles LOW,HIGH with 0 <= LOW < HIGH <= 100, "
                f"got {options.stretch!r}; give --stretch 2,98"
            ) from error
    return {"bands": bands, "stretch": stretch}


def split_words(values: list[str] | None) -> list[str]:
    """Split each value at its commas.

    Examples:
        >>> split_words(["coco, yolo", "overlay"])
        ['coco', 'yolo', 'overlay']
    """
    return [word.strip() for value in values or () for word in value.split(",") if word.strip()]


def picture_to_open(options: RunOptions, formats: Sequence[str]) -> str | None:
    """The name of the picture that `--open` shows; None without `--open`."""
    pictures = {"overlay": "overlay.png", "heatmaps": "heatmaps.png"}
    if not options.open_picture or options.dry_run:
        return None
    found = [picture for form, picture in pictures.items() if form in formats]
    if not found:
        raise OptionError("--open: expected a picture among the formats, got none; add --format overlay")
    return found[0]


def find_inputs(
    images: Sequence[str], root: Path | None = None, *, recursive: bool = False, leave_out: Path | None = None
) -> Inputs:
    """The images that files, folders and patterns name, each once.

    A source without images does not stop the others. If no source has an image, the errors are printed and the command
    exits.

    Args:
        images: the sources; "-" stands for those that stdin lists.
        root: the folder to name results from; None takes the folder of each source.
        recursive: whether the folders in a folder are searched too.
        leave_out: the output folder, whose pictures are no images of a folder above it that is searched.

    Raises:
        OptionError: an image is not below `root`.
    """
    from fgseg._files.names import absolute_path
    from fgseg.images.find import source_folder

    paths: dict[Path, Path] = {}
    names: dict[Path, Path] = {}
    refused: list[dict[str, Any]] = []
    for source in (name for given in images for name in (_listed_on_stdin() if given == "-" else [given])):
        try:
            found = _images_of(source, recursive=recursive, leave_out=leave_out)
        except (ImageError, OptionError) as error:
            refused.append({"image": source, "error": str(error)})
        else:
            for path in found:
                if paths.setdefault(absolute_path(path), path) is path:
                    names[path] = folder_name(path, source_folder(source)) if root is None else _below(path, root)
    if not paths:
        for record in refused:
            complain(f"error: {record['error']}")
        raise typer.Exit(USAGE)
    return Inputs(tuple(paths.values()), tuple(refused), names)


def _images_of(source: str, *, recursive: bool, leave_out: Path | None) -> list[Path]:
    """The images of one source; with `recursive`, those at any depth below a folder, but not below `leave_out`."""
    from fgseg._files.names import absolute_path
    from fgseg.images.find import find_images

    if not source:  # it would be the current folder
        raise OptionError("'': expected a file, folder or pattern, got no name")
    if not (recursive and Path(source).is_dir()):
        return find_images([source])
    found = find_images([str(Path(glob.escape(source), "**"))])
    results = None if leave_out is None else absolute_path(leave_out)
    kept = [path for path in found if results is None or not absolute_path(path).is_relative_to(results)]
    if not kept:
        raise ImageError(f"{source}: no picture in this folder besides those of the output folder")
    return kept


def _listed_on_stdin() -> list[str]:
    """The names on stdin, one per line, or with null characters between them, as `find -print0` writes them."""
    if sys.stdin.isatty():
        complain("-: give names of images, one per line; Ctrl-D ends the list")
    data = sys.stdin.buffer.read()
    names = data.split(b"\0") if b"\0" in data else data.splitlines()
    listed = [os.fsdecode(name) for name in names if name.strip()]
    if not listed:
        raise OptionError("-: expected names of images on stdin, one per line, got none")
    return listed


def _below(path: Path, root: Path) -> Path:
    """The folder of an image's result, named from another folder than that of its source."""
    from fgseg._files.names import absolute_path

    if not absolute_path(path).is_relative_to(root.resolve()):
        raise OptionError(f"--root: {path} is not below {root}; name a folder above all images")
    return folder_name(absolute_path(path), root.resolve())


def check_writable(out: Path) -> None:
    """Make the output folder, and refuse it if nothing can be written into it."""
    from fgseg._files.output_errors import is_full_or_read_only

    try:
        out.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise OutputError(f"--out: a file stands where the folder {out} should be; choose another") from error
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        reason = getattr(error, "strerror", None) or error
        kind = DiskError if isinstance(error, OSError) and is_full_or_read_only(error) else OutputError
        raise kind(f"--out: cannot make the folder {out} ({reason}); choose another") from error
    if hasattr(os, "statvfs") and os.statvfs(out).f_flag & os.ST_RDONLY:  # not on Windows
        raise DiskError(f"--out: the disk of {out} is read-only; choose another folder")
    if not os.access(out, os.W_OK | os.X_OK):
        raise OutputError(f"--out: no permission to write into {out}; choose another folder")


def model_arguments(options: ModelOptions) -> dict[str, Any]:
    """The arguments of `fgseg.load`."""
    given = {**asdict(options), "offline": options.offline or None}
    del given["verbose"]
    return given


def load_segmenter(options: ModelOptions) -> Segmenter:
    """Load the model, and log which it is."""
    given = model_arguments(options)
    with STATUS.during(f"loading {options.model or os.environ.get('FGSEG_MODEL') or 'mini'}"):
        from fgseg.segmenter import load

        seg = load(**given, progress=STATUS)
    logging.getLogger("fgseg").info("model %s on %s in %s", seg.encoder.name, seg.encoder.device, seg.encoder.dtype)
    return seg
