"""The command line: `fgseg segment | heatmap | boxes | rank | bench | train | serve | models | doctor`.

Data goes to stdout, progress and errors to stderr. Exit 0 done, 1 failed, 2 usage, 3 finished but some images failed,
130 interrupted. Heavy modules load inside the commands, so that `--help` is quick.
"""

from __future__ import annotations

import io
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Annotated, Any, cast

import typer
from typer.core import TyperGroup

from fgseg._version import __version__
from fgseg.commands.bench import bench
from fgseg.commands.exit_codes import DONE, FAILED, INTERRUPTED, USAGE
from fgseg.commands.images import boxes, heatmap, rank, segment
from fgseg.commands.options import AsJson, Device, Dtype, Model
from fgseg.commands.output import complain, pairs, table, to_json
from fgseg.commands.serve import serve
from fgseg.commands.train import train
from fgseg.errors import FgsegError

__all__ = ["app", "main"]


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


for command in (segment, heatmap, boxes, rank, bench, train, serve):
    app.command()(command)


@app.command()
def models(
    name: Annotated[str | None, typer.Argument(help="A model, to see its words, sizes and defaults.")] = None,
    as_json: AsJson = False,
) -> None:
    """The models that have a name here, and whether their weights are on this machine."""
    from fgseg.commands.doctor import model_card, model_list

    if name is not None:
        card = model_card(name)
        typer.echo(to_json(card, indent=2) if as_json else pairs(card))
        return
    listed = model_list()
    if as_json:
        typer.echo(to_json(listed, indent=2))
    else:
        typer.echo(table(("model", "weights", "about"), [(m["name"], m["weights"], m["about"]) for m in listed]))


@app.command()
def doctor(device: Device = "auto", dtype: Dtype = "auto", model: Model = None, as_json: AsJson = False) -> None:
    """What is installed, which device and dtype would be used, and whether the weights are there."""
    from fgseg.commands.doctor import diagnose

    report = diagnose(model, device=device, dtype=dtype)
    typer.echo(to_json(report, indent=2) if as_json else pairs(report))
    if report["problems"]:
        raise typer.Exit(FAILED)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: runs the command and turns every outcome into an exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    sys.exit(_exit_status(words))


def _exit_status(words: list[str]) -> int:
    verbose = bool({"-v", "--verbose"} & set(words))
    warnings.filterwarnings("ignore", category=UserWarning, module="PIL")  # of a file that is read, or refused, anyway
    try:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # a file name or prompt that the terminal cannot show
        code = app(args=words, prog_name="fgseg", standalone_mode=False)
        sys.stdout.flush()
    except _click_error() as error:
        complain(_usage(error))
        return USAGE
    except (_Interrupted, KeyboardInterrupt, typer.Abort):
        complain("interrupted")
        return INTERRUPTED
    except (_ReaderGone, BrokenPipeError):
        # Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return DONE
    except FgsegError as error:
        complain(f"error: {error}")
        return USAGE
    except Exception as error:  # the last door: one line, and the trace for those who ask
        if verbose:
            traceback.print_exc()
        complain(f"failed: {type(error).__name__}: {error}" + ("" if verbose else " (again with -v to see where)"))
        return FAILED
    return code if isinstance(code, int) else DONE


def _usage(error: Any) -> str:
    """One line for an argument that typer refused."""
    command = error.ctx.command_path if getattr(error, "ctx", None) else "fgseg"
    message = error.format_message().replace("Value error, ", "").rstrip(".")  # pydantic's, which typer asks
    return f"error: {message}; see {command} --help"
