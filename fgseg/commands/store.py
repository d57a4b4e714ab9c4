"""The commands on the store of a batch run: `fgseg store status | check | compact | export`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from fgseg.commands import arguments
from fgseg.commands.options import Base, ReportOptions, named_folder, with_option_groups
from fgseg.commands.terminal.output import FAILED, SOME_FAILED, USAGE, complain, count_bar, pairs, table, to_json
from fgseg.errors import OptionError

if TYPE_CHECKING:
    from fgseg.store.store import Store

__all__ = ["store"]

store = typer.Typer(rich_markup_mode=None)
_Path = Annotated[str, Argument(metavar="STORE", help="Folder of the store, or an address such as s3://bucket/store.")]
_Run = Annotated[
    str | None, Option(metavar="KEY", help="Run of the store, as status shows it. [default: the only one]")
]


@store.callback(invoke_without_command=True)
def _root(context: typer.Context) -> None:
    """Look after the store of `fgseg batch`, and export its results."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(USAGE)


@store.command()
@with_option_groups
def status(
    path: _Path,
    *,
    run: _Run = None,
    errors: Annotated[bool, Option("--errors", help="List the images that failed instead, with their errors.")] = False,
    report: ReportOptions,
) -> None:
    """Show how far each run is: images, units that are done, errors, damaged files."""
    _need_packages()
    from fgseg.store.maintenance.checking import run_status
    from fgseg.store.store import open_runs

    stores = [_opened(path, run)] if run is not None or errors else open_runs(path)
    if errors:
        _print_errors(stores[0], as_json=report.as_json)
        return
    for opened in stores:
        found = asdict(run_status(opened))
        typer.echo(to_json(found) if report.as_json else pairs(found))
        if found["units_done"] < found["units"]:
            complain("the same `fgseg batch` command continues the run")


@store.command()
@with_option_groups
def check(
    path: _Path,
    *,
    run: _Run = None,
    quarantine: Annotated[
        bool, Option("--quarantine", help="Move damaged files aside, so that `fgseg batch` makes their images again.")
    ] = False,
    report: ReportOptions,
) -> None:
    """Read every byte of a run and compare checksums. Exit status 1 if something is damaged."""
    _need_packages()
    from fgseg.store.maintenance.checking import check_store

    opened = _opened(path, run)
    with count_bar("check", unit="file", quiet=report.quiet) as show:
        problems = list(check_store(opened, quarantine=quarantine, progress=show))
    for problem in problems:
        line = f"{problem.file}: {problem.fault}; {problem.advice}"
        typer.echo(to_json(asdict(problem)) if report.as_json else line)
    if problems:
        complain(f"{len(problems)} damaged file{'s' if len(problems) > 1 else ''}")
        raise typer.Exit(FAILED)
    complain(f"{path}: every byte is as it was written")


@store.command()
@with_option_groups
def compact(path: _Path, *, run: _Run = None, report: ReportOptions) -> None:
    """Join the small files of a run into few. It may be stopped and begun again."""
    _need_packages()
    from fgseg.store.maintenance.compacting import compact_store

    opened = _opened(path, run)
    with count_bar("compact", unit="file", quiet=report.quiet) as show:
        done = asdict(compact_store(opened, progress=show))
    typer.echo(to_json(done) if report.as_json else pairs({"files before": done["before"], "after": done["after"]}))


@store.command()
@with_option_groups
def export(
    path: _Path,
    *,
    formats: Annotated[
        list[str] | None,
        Option("--format", "-f", help="labels, overlay, coco, yolo, regions, classes; repeat for more."),
    ] = None,
    out: Annotated[Path, Option("--out", "-o", parser=named_folder, metavar="FOLDER", help="Output folder.")] = Path(
        "fgseg-export"
    ),
    run: _Run = None,
    root: Annotated[
        Path | None,
        Option(parser=named_folder, metavar="FOLDER", help="Where the images are now, for overlay and yolo."),
    ] = None,
    base: Base = "grey",
    report: ReportOptions,
) -> None:
    """Write the results of a run as label maps, overlays, COCO, YOLO or tables. Exit status 3 if images are missing."""
    _need_packages()
    from fgseg.store.results.export import EXPORTS, export_store
    from fgseg.store.results.reading import StoreReader

    wanted = arguments.split_words(formats)
    if not wanted:
        raise OptionError(f"--format: expected at least one of {', '.join(EXPORTS)}, got none; give --format coco")
    reader = StoreReader(_opened(path, run))
    with count_bar("export", unit="image", quiet=report.quiet) as show:
        done = asdict(export_store(reader, out, wanted, root=root, base=base, progress=show))
    typer.echo(to_json({**done, "folder": str(out)}) if report.as_json else pairs({**done, "folder": out}))
    if done["skipped"]:
        complain(f"images without a result: {done['skipped']}; fgseg store status {path} --errors lists them")
    if done["failed"]:
        complain(f"images that could not be read again: {done['failed']} of {done['images']}")
        raise typer.Exit(SOME_FAILED)


def _need_packages() -> None:
    from fgseg.store.opening import check_packages

    check_packages()


def _opened(path: str, run: str | None) -> Store:
    from fgseg.store.store import Store

    return Store.open(path, run=run)


def _print_errors(opened: Store, *, as_json: bool) -> None:
    from fgseg.store.results.reading import StoreReader

    rows: list[tuple[str, str, str]] = []
    for row in StoreReader(opened).errors():
        rows.append((row.image_id, row.error_type, row.error))
        if as_json:
            typer.echo(
                to_json({"image": row.image_id, "uri": row.uri, "error_type": row.error_type, "error": row.error})
            )
    if rows and not as_json:
        typer.echo(table(("image", "type", "error"), rows))
