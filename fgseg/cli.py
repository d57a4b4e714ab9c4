"""The command line: `fgseg segment | heatmap | boxes | rank | models | doctor`.

Data goes to stdout, progress and errors to stderr. Exit 0 done, 1 failed, 2 usage, 3 finished but some images failed,
130 interrupted. Heavy modules load inside the commands, so that `--help` is quick.
"""

from __future__ import annotations

import io
import json
import logging
import os
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from typer.core import TyperGroup

from fgseg._version import __version__
from fgseg.errors import FgsegError, ImageError, OptionError, OutputError, ShapeError

if TYPE_CHECKING:
    from fgseg.prompts import PromptClass
    from fgseg.segmenter import Segmenter

__all__ = ["app", "main"]

DONE, FAILED, USAGE, SOME_FAILED, INTERRUPTED = 0, 1, 2, 3, 130


def _click_error() -> type[Exception]:
    """The base of what typer refuses: click's own class, or that of the copy of click which newer typers carry."""
    return cast("type[Exception]", next(k for k in typer.BadParameter.__mro__ if k.__name__ == "ClickException"))


class _Interrupted(Exception):
    """Ctrl-C."""


class _ReaderGone(Exception):
    """Whoever read stdout has left, as in `| head`."""


class _Commands(TyperGroup):
    """Hands on what typer would turn into exit codes of its own."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise _Interrupted from error
        except BrokenPipeError as error:
            raise _ReaderGone from error


app = typer.Typer(
    name="fgseg",
    cls=_Commands,
    help="Words to masks: open-vocabulary segmentation with FG-CLIP.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


class Mode(StrEnum):
    """How masks share pixels."""

    exclusive = "exclusive"
    independent = "independent"


class Refine(StrEnum):
    """Edge-aware refinement."""

    none = "none"
    guided = "guided"
    pamr = "pamr"


class Route(StrEnum):
    """Text route of whole images."""

    short = "short"
    long = "long"


Images = Annotated[
    list[str], typer.Argument(metavar="IMAGE", help="Files, folders and patterns such as 'photos/*.jpg'.")
]
Prompts = Annotated[
    list[str] | None,
    typer.Option("--prompt", "-p", help="A class; again for more. 'cup, mug' are synonyms, '\\,' is a comma."),
]
Classes = Annotated[Path | None, typer.Option("--classes", help="Class file: .txt (a class a line), .json or .yaml.")]
Background = Annotated[
    list[str] | None,
    typer.Option(
        "--background",
        help="Word for anything else, in place of the model's own; again for more; '' for none.",
    ),
]
Negative = Annotated[
    list[str] | None,
    typer.Option("--negative", help="'Not this': competes and never wins a pixel; again for more."),
]
Templates = Annotated[
    str | None,
    typer.Option(help="Sentences around class names: none, imagenet, or a file. [default: the model's]"),
]
Model = Annotated[
    str | None,
    typer.Option("--model", help="Name (see `fgseg models`), folder or hub id. [default: FGSEG_MODEL, else mini]"),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
Dtype = Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")]
Recipe = Annotated[
    str,
    typer.Option(help="Dense recipe of CLIP and FG-CLIP 1: value, vanilla, sclip, naclip, kk, clearclip."),
]
Revision = Annotated[str | None, typer.Option(help="Hub commit, tag or branch. [default: the pinned one]")]
Offline = Annotated[bool, typer.Option("--offline", help="Never ask the network.")]
Resolution = Annotated[
    str, typer.Option(help="auto, squash, keep or slide, with a size: slide:448, slide:448/224/112.")
]
Out = Annotated[
    Path, typer.Option("--out", "-o", help="Folder for results; each image gets a folder of its own in it.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object an image and line, instead of a table.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Log what is done; show where an unexpected error came from.")
]


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        typer.echo(f"fgseg {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(USAGE)


@app.command()
def segment(
    images: Images,
    prompt: Prompts = None,
    classes: Classes = None,
    background: Background = None,
    negative: Negative = None,
    mode: Annotated[Mode, typer.Option(help="One class a pixel, or a mask a class.")] = Mode.exclusive,
    threshold: Annotated[str, typer.Option(help="Least presence, 0 to 1, or auto.")] = "0.5",
    templates: Templates = None,
    resolution: Resolution = "auto",
    refine: Annotated[Refine, typer.Option(help="Follow the image's edges.")] = Refine.none,
    min_area: Annotated[int, typer.Option(min=0, help="Pixels; smaller parts are dropped.")] = 1,
    max_hole: Annotated[int, typer.Option(min=0, help="Pixels; holes up to this are filled (independent).")] = 0,
    model: Model = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    recipe: Recipe = "value",
    revision: Revision = None,
    offline: Offline = False,
    out: Out = Path("fgseg-out"),
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            "-f",
            help="labels, overlay, regions, heatmaps, masks, coco, geojson, yolo, labelme; again for more. "
            "[default: the first three]",
        ),
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Masks from words: label map, overlay, region table and more for every image."""
    from fgseg.segmentation import check_formats

    wanted = _flat(formats) or ["labels", "overlay", "regions"]
    check_formats(wanted)
    prompts, limit = _prompts(prompt, classes), _threshold(threshold)
    _check_resolution(resolution)
    inputs = _inputs(images)
    _writable(out)
    seg = _load(model, device, dtype, recipe, revision, offline, verbose)
    options: dict[str, Any] = {
        "mode": mode.value, "threshold": limit, "background": _flat_or_none(background), "negatives": negative or (),
        "templates": templates, "resolution": resolution, "refine": refine.value,
        "min_area": min_area, "max_hole": max_hole,
    }  # fmt: skip
    seg.prepare(prompts, background=options["background"], negatives=options["negatives"], templates=templates)
    folders = _folders(inputs.paths, out)

    def one(path: Path) -> list[dict[str, Any]]:
        result = seg.segment(path, prompts, **options)
        written = result.save(folders[path], formats=wanted)
        summary = result.to_dict()
        return [{"image": str(path), **summary, "files": [str(file) for file in written]}]

    def rows(record: dict[str, Any]) -> Iterable[Sequence[Any]]:
        for entry in record["classes"]:
            mine = [region for region in record["regions"] if region["class_index"] == entry["index"]]
            peak = max((region["peak_score"] for region in mine), default=0.0)
            yield record["image"], entry["name"], f"{100 * entry['share']:.2f}", len(mine), f"{peak:.3f}"

    _run(inputs, one, rows, ("image", "class", "% of pixels", "regions", "peak"), as_json=as_json, quiet=quiet)


@app.command()
def heatmap(
    images: Images,
    prompt: Prompts = None,
    classes: Classes = None,
    background: Background = None,
    negative: Negative = None,
    templates: Templates = None,
    resolution: Resolution = "auto",
    model: Model = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    recipe: Recipe = "value",
    revision: Revision = None,
    offline: Offline = False,
    out: Out = Path("fgseg-out"),
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Where each prompt is: a picture of every prompt's presence, and its numbers as npz."""
    prompts = _prompts(prompt, classes)
    _check_resolution(resolution)
    inputs = _inputs(images)
    _writable(out)
    seg = _load(model, device, dtype, recipe, revision, offline, verbose)
    words: dict[str, Any] = {
        "background": _flat_or_none(background),
        "negatives": negative or (),
        "templates": templates,
    }
    seg.prepare(prompts, **words)
    folders = _folders(inputs.paths, out)

    def one(path: Path) -> list[dict[str, Any]]:
        result = seg.segment(path, prompts, resolution=resolution, **words)
        written = result.save(folders[path], formats=["heatmaps"])
        maps = [
            {
                "name": name,
                "mean": float(score_map.mean()),
                "peak": float(score_map.max()),
                "share": float((score_map >= 0.5).mean()),
            }
            for name, score_map in result.scores.items()
        ]
        return [{"image": str(path), "classes": maps, "files": [str(file) for file in written]}]

    def rows(record: dict[str, Any]) -> Iterable[Sequence[Any]]:
        for entry in record["classes"]:
            yield (
                record["image"],
                entry["name"],
                f"{entry['mean']:.3f}",
                f"{entry['peak']:.3f}",
                f"{100 * entry['share']:.2f}",
            )

    _run(inputs, one, rows, ("image", "class", "mean", "peak", "% present"), as_json=as_json, quiet=quiet)


@app.command()
def boxes(
    images: Images,
    box: Annotated[
        list[str] | None, typer.Option("--box", "-b", help="LEFT,TOP,RIGHT,BOTTOM in pixels; again for more.")
    ] = None,
    prompt: Annotated[list[str] | None, typer.Option("--prompt", "-p", help="A phrase; again for more.")] = None,
    templates: Annotated[str, typer.Option(help="Sentences around phrases: none, imagenet, or a file.")] = "none",
    resolution: Annotated[str, typer.Option(help="auto, squash or keep, with a size: keep:448.")] = "auto",
    model: Model = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    recipe: Recipe = "value",
    revision: Revision = None,
    offline: Offline = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Which phrase fits which box."""
    given = [_box(text) for text in box or ()]
    phrases = prompt or []
    if not given or not phrases:
        missing = "--prompt" if given else "--box"
        raise OptionError(f"{missing}: expected at least one, got none; say --box 10,20,200,150 --prompt cup")
    _check_resolution(resolution)
    inputs = _inputs(images)
    seg = _load(model, device, dtype, recipe, revision, offline, verbose)

    def one(path: Path) -> list[dict[str, Any]]:
        scores = seg.score_boxes(path, given, phrases, templates=templates, resolution=resolution)
        return [
            {
                "image": str(path),
                "box_xyxy": row,
                "scores": [
                    {"text": text, "cosine": round(float(c), 6), "probability": round(float(p), 6)}
                    for text, c, p in zip(phrases, cosine, probability, strict=True)
                ],
            }
            for row, cosine, probability in zip(given, scores.cosine, scores.probabilities, strict=True)
        ]

    def rows(record: dict[str, Any]) -> Iterable[Sequence[Any]]:
        corners = ",".join(f"{value:g}" for value in record["box_xyxy"])
        for score in sorted(record["scores"], key=lambda score: -score["cosine"]):
            yield (
                record["image"],
                corners,
                score["text"],
                f"{score['cosine']:.4f}",
                f"{score['probability']:.4f}",
            )

    _run(inputs, one, rows, ("image", "box", "text", "cosine", "probability"), as_json=as_json, quiet=quiet)


@app.command()
def rank(
    images: Images,
    prompt: Annotated[list[str] | None, typer.Option("--prompt", "-p", help="A caption; again for more.")] = None,
    route: Annotated[Route, typer.Option(help="short (77 tokens) or long (248).")] = Route.short,
    model: Model = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    recipe: Recipe = "value",
    revision: Revision = None,
    offline: Offline = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Which caption fits each whole image."""
    captions = prompt or []
    if not captions:
        raise OptionError(
            "--prompt: expected at least one caption, got none; say --prompt 'a red circle on a white background'"
        )
    inputs = _inputs(images)
    seg = _load(model, device, dtype, recipe, revision, offline, verbose)

    def one(path: Path) -> list[dict[str, Any]]:
        ranking = seg.rank(path, captions, route=route.value)
        order = ranking.order[0]
        scores = [
            {
                "text": captions[i],
                "cosine": round(float(ranking.cosine[0, i]), 6),
                "probability": round(float(ranking.probabilities[0, i]), 6),
            }
            for i in order
        ]
        return [{"image": str(path), "scores": scores}]

    def rows(record: dict[str, Any]) -> Iterable[Sequence[Any]]:
        for place, score in enumerate(record["scores"], start=1):
            yield (
                record["image"],
                place,
                score["text"],
                f"{score['cosine']:.4f}",
                f"{score['probability']:.4f}",
            )

    _run(inputs, one, rows, ("image", "rank", "caption", "cosine", "probability"), as_json=as_json, quiet=quiet)


@app.command()
def models(
    name: Annotated[str | None, typer.Argument(help="A model, to see its words, sizes and defaults.")] = None,
    as_json: AsJson = False,
) -> None:
    """The models that have a name here, and whether their weights are on this machine."""
    from fgseg.diagnosis import model_card, model_list

    if name is not None:
        card = model_card(name)
        typer.echo(_json(card, indent=2) if as_json else _pairs(card))
        return
    listed = model_list()
    if as_json:
        typer.echo(_json(listed, indent=2))
    else:
        typer.echo(_table(("model", "weights", "about"), [(m["name"], m["weights"], m["about"]) for m in listed]))


@app.command()
def doctor(device: Device = "auto", dtype: Dtype = "auto", model: Model = None, as_json: AsJson = False) -> None:
    """What is installed, which device and dtype would be used, and whether the weights are there."""
    from fgseg.diagnosis import diagnose

    report = diagnose(model, device=device, dtype=dtype)
    typer.echo(_json(report, indent=2) if as_json else _pairs(report))
    if report["problems"]:
        raise typer.Exit(FAILED)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: runs the command and turns every outcome into an exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    sys.exit(_exit_status(words))


def _exit_status(words: list[str]) -> int:
    verbose = bool({"-v", "--verbose"} & set(words))
    try:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # a file name or prompt that the terminal cannot show
        code = app(args=words, prog_name="fgseg", standalone_mode=False)
        sys.stdout.flush()
    except _click_error() as error:
        _complain(_usage(error))
        return USAGE
    except (_Interrupted, KeyboardInterrupt, typer.Abort):
        _complain("interrupted")
        return INTERRUPTED
    except (_ReaderGone, BrokenPipeError):
        # Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return DONE
    except FgsegError as error:
        _complain(f"error: {error}")
        return USAGE
    except Exception as error:  # the last door: one line, and the trace for those who ask
        if verbose:
            traceback.print_exc()
        _complain(f"failed: {type(error).__name__}: {error}" + ("" if verbose else " (again with -v to see where)"))
        return FAILED
    return code if isinstance(code, int) else DONE


def _usage(error: Any) -> str:
    """One line for an argument that typer refused."""
    command = error.ctx.command_path if getattr(error, "ctx", None) else "fgseg"
    message = error.format_message().replace("Value error, ", "").rstrip(".")  # pydantic's, which typer asks
    return f"error: {message}; see {command} --help"


# --- arguments


def _prompts(prompt: list[str] | None, classes: Path | None) -> list[str | PromptClass]:
    from fgseg.prompts import parse_classes, read_class_file

    listed: list[str | PromptClass] = [*(read_class_file(classes) if classes else ()), *(prompt or ())]
    if not listed:
        raise OptionError("--prompt: expected at least one, got none; say --prompt red, or --classes FILE")
    return list(parse_classes(listed))


def _threshold(text: str) -> Any:
    if text == "auto":
        return "auto"
    try:
        limit = float(text)
    except ValueError:
        limit = -1.0
    if not 0 <= limit <= 1:
        raise OptionError(f"--threshold: expected a number from 0 to 1 or auto, got {text!r}")
    return limit


def _check_resolution(text: str) -> None:
    from fgseg.windows import parse_resolution

    if text != "auto":
        parse_resolution(text)


def _box(text: str) -> list[float]:
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


def _flat(values: list[str] | None) -> list[str]:
    return [part.strip() for value in values or () for part in value.split(",") if part.strip()]


def _flat_or_none(values: list[str] | None) -> list[str] | None:
    """None where the option was not given; '' alone asks for none at all."""
    return None if values is None else [value for value in values if value.strip()]


@dataclass(frozen=True)
class _Inputs:
    """paths: images to do, each once; refused: (what was asked for, why) of what stands for no image."""

    paths: tuple[Path, ...]
    refused: tuple[tuple[str, str], ...]


def _inputs(images: Sequence[str]) -> _Inputs:
    """What the user names, one source at a time: an empty folder does not keep the others from being done.

    Leaves with a line for each where none of them stands for an image.
    """
    from fgseg.io import find_images

    paths: dict[Path, Path] = {}
    refused: list[tuple[str, str]] = []
    for source in images:
        try:
            found = find_images([source] if source else [])  # '' would be the folder one is in
        except (ImageError, OptionError) as error:
            refused.append((source, str(error) if source else "'': expected a file, folder or pattern, got no name"))
        else:
            for path in found:
                paths.setdefault(path.absolute(), path)
    if not paths:
        for _, why in refused:
            _complain(f"error: {why}")
        raise typer.Exit(USAGE)
    return _Inputs(tuple(paths.values()), tuple(refused))


def _writable(out: Path) -> None:
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


def _load(
    model: str | None,
    device: str,
    dtype: str,
    recipe: str,
    revision: str | None,
    offline: bool,
    verbose: bool,
) -> Segmenter:
    from fgseg.segmenter import load

    log = logging.getLogger("fgseg")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
    log.handlers[:] = [handler]
    log.setLevel(logging.INFO if verbose else logging.WARNING)
    seg = load(model, device=device, dtype=dtype, recipe=recipe, revision=revision, offline=offline or None)  # type: ignore[arg-type]
    log.info("model %s on %s in %s", seg.encoder.name, seg.encoder.device, seg.encoder.dtype)
    return seg


def _folders(paths: Sequence[Path], out: Path) -> dict[Path, Path]:
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


# --- the loop over images, and what is printed


class _Report:
    """What comes of each input: records on stdout as lines of JSON or one table at the end, failures on stderr."""

    def __init__(self, rows: Callable[[dict[str, Any]], Iterable[Sequence[Any]]], *, as_json: bool) -> None:
        self.rows, self.as_json, self.failed = rows, as_json, 0
        self.table: list[Sequence[Any]] = []

    def add(self, records: Sequence[dict[str, Any]]) -> None:
        for record in records:
            if self.as_json:
                typer.echo(_json(record))
            else:
                self.table.extend(self.rows(record))

    def fail(self, name: str, why: str) -> None:
        self.failed += 1
        _complain(f"error: {why}")
        if self.as_json:
            typer.echo(_json({"image": name, "error": why}))

    def close(self, header: Sequence[str], count: int) -> None:
        if self.table:
            typer.echo(_table(header, self.table))
        if self.failed:
            _complain(f"{self.failed} of {count} inputs failed")
            raise typer.Exit(SOME_FAILED)


def _run(
    inputs: _Inputs,
    one: Callable[[Path], list[dict[str, Any]]],
    rows: Callable[[dict[str, Any]], Iterable[Sequence[Any]]],
    header: Sequence[str],
    *,
    as_json: bool,
    quiet: bool,
) -> None:
    """Do every image; one that cannot be done is named on stderr and the others go on."""
    from tqdm import tqdm

    report = _Report(rows, as_json=as_json)
    for name, why in inputs.refused:
        report.fail(name, why)
    is_silent = True if quiet or len(inputs.paths) == 1 else None  # None: silent where stderr is no terminal
    with tqdm(inputs.paths, unit="image", file=sys.stderr, disable=is_silent) as bar:
        for path in bar:
            try:
                records = one(path)
            except (ImageError, OutputError, ShapeError) as error:  # of this image: its file, its folder, a box outside
                bar.clear()
                report.fail(str(path), f"{path}: {error}" if isinstance(error, ShapeError) else str(error))
            else:
                bar.clear()
                report.add(records)
    report.close(header, len(inputs.paths) + len(inputs.refused))


def _table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells
    )


def _pairs(report: dict[str, Any]) -> str:
    width = max(map(len, report))
    next_line = "\n" + " " * (width + 2)

    def shown(key: str, value: Any) -> str:
        if isinstance(value, (list, tuple)):
            value = (next_line if key == "problems" else ", ").join(map(str, value))
        return "-" if value in (None, "") else str(value)

    return "\n".join(f"{key.ljust(width)}  {shown(key, value)}" for key, value in report.items())


def _json(value: Any, *, indent: int | None = None) -> str:
    """JSON in the letters that stdout can show, or in escapes where it cannot."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(value, indent=indent)
    return text


def _complain(line: str) -> None:
    typer.echo(f"fgseg: {' '.join(line.split())}", err=True)


if __name__ == "__main__":
    main()
