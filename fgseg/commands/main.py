"""The command line: `fgseg segment | heatmap | boxes | rank | batch | store | bench | train | serve | models | doctor`.

Data goes to stdout, progress and errors go to stderr. Exit status: 0 done, 1 failed, 2 wrong usage, 3 finished but some
images failed, 130 interrupted. The commands import heavy modules inside, so that `--help` is quick.
"""

from __future__ import annotations

import io
import logging
import os
import re
import shlex
import sys
import traceback
import warnings
from collections.abc import Sequence
from contextlib import redirect_stdout
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path
from shutil import get_terminal_size
from typing import Annotated, Any, cast

import typer

from fgseg._version import __version__
from fgseg.commands.arguments import comma_notes
from fgseg.commands.batch import batch
from fgseg.commands.bench import bench
from fgseg.commands.images import boxes, heatmap, rank, segment
from fgseg.commands.options import HOW, MODEL, OUTPUT, WHAT, AsJson, Device, Dtype, Model
from fgseg.commands.serve import serve
from fgseg.commands.store import store
from fgseg.commands.terminal.output import (
    DONE,
    FAILED,
    INTERRUPTED,
    USAGE,
    complain,
    log_to_stderr,
    pairs,
    table,
    to_json,
)
from fgseg.commands.terminal.status import STATUS
from fgseg.commands.terminal.wording import in_options
from fgseg.commands.train import train
from fgseg.errors import BatchError, DiskError, FgsegError, OutputError, UnknownWordError

__all__ = ["app", "main"]

_PANELS = (None, WHAT, HOW, MODEL, OUTPUT)  # in the order of the help; arguments have none and are first


def _click_error() -> type[Exception]:
    """The base of typer's usage errors. It belongs to click, or to the copy of click inside newer versions of typer."""
    return cast("type[Exception]", next(k for k in typer.BadParameter.__mro__ if k.__name__ == "ClickException"))


app = typer.Typer(
    name="fgseg",
    help="Words to masks: open-vocabulary segmentation with FG-CLIP. fgseg COMMAND -h shows the options of a command.",
    epilog="The Tab key completes commands and options after fgseg --install-completion and a new shell.",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        typer.echo(f"fgseg {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        with redirect_stdout(sys.stderr):  # typer prints help with panels at once
            typer.echo(context.get_help())
        raise typer.Exit(USAGE)


for command in (segment, heatmap, boxes, rank, batch, bench, train, serve):
    app.command()(command)
app.add_typer(store, name="store")


@app.command()
def models(
    name: Annotated[str | None, typer.Argument(help="Show the details of this name, folder or hub id.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the named models and guides: their size, their licence, and which weights are on this machine."""
    from fgseg.commands.doctor import guide_list, model_card, model_list

    if name is None:
        lists = {"model": model_list(), "guide": guide_list()}
        if as_json:
            typer.echo(to_json([{"kind": kind, **one} for kind, listed in lists.items() for one in listed], indent=2))
            return
        headings = ("weights", "size", "licence", "about")
        tables = [table((kind, *headings), [tuple(one.values()) for one in listed]) for kind, listed in lists.items()]
        typer.echo("\n\n".join(tables))
        return
    report = model_card(name)
    if as_json:
        typer.echo(to_json(report, indent=2))
        return
    groups = report.pop("vocabulary", None)
    typer.echo(pairs(report if groups is None else {**report, "words": "in groups:", **groups}))


@app.command()
def doctor(device: Device = "auto", dtype: Dtype = "auto", model: Model = None, as_json: AsJson = False) -> None:
    """Check the installation. Shows package versions, the device and dtype that are used, and missing weights."""
    STATUS.start(quiet=False)
    from fgseg.commands.doctor import diagnose

    report = diagnose(model, device=device, dtype=dtype, progress=STATUS)
    STATUS.stop()
    typer.echo(to_json(report, indent=2) if as_json else pairs(report))
    if report["problems"]:
        raise typer.Exit(FAILED)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and exit with its status; `arguments` default to those of the process."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    sys.exit(_exit_status(words))


def _exit_status(words: list[str]) -> int:
    verbose = bool({"-v", "--verbose"} & set(words))
    quiet = bool({"-q", "--quiet"} & set(words))
    log_to_stderr(logging.INFO if verbose else logging.ERROR if quiet else logging.WARNING)
    warnings.filterwarnings("ignore", category=UserWarning, module="PIL")  # an unreadable file raises an error as well
    try:
        _run(words)
    except typer.Exit as leaving:
        return leaving.exit_code
    except _click_error() as error:
        complain(_usage(error, words))
        return USAGE
    except KeyboardInterrupt:
        complain("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        _discard_output()
        return DONE
    except FgsegError as error:
        return _refused(error, words)
    except Exception as error:  # one line for any other error; -v shows the traceback
        if verbose:
            traceback.print_exc()
        complain(
            f"failed: {type(error).__name__}: {error}"
            + ("" if verbose else " (run it again with -v for the traceback)")
        )
        return FAILED
    finally:
        STATUS.stop()
    return DONE


def _refused(error: FgsegError, words: list[str]) -> int:
    """Print an error; for words that the embedded model lacks, also the same command with a model that knows any."""
    complain(f"error: {error if isinstance(error, OutputError) else in_options(str(error))}")  # a path may be "store"
    if isinstance(error, UnknownWordError):
        for hint in comma_notes([word for flag, word in pairwise(words) if flag in ("-p", "--prompt")]):
            complain(hint)
    if isinstance(error, UnknownWordError) and "--model" not in words:
        complain(f"for any words: {shlex.join(['fgseg', *words, '--model', 'fg-clip-base'])}")
        complain("this downloads 601 MB once; afterwards it works without a network, also with --offline")
    return FAILED if isinstance(error, (BatchError, DiskError)) else USAGE


def _run(words: list[str]) -> None:
    """Run a command. Typer's own `main` would print an empty line after Ctrl-C, and fail for a closed pipe."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # characters that the terminal cannot show
    command = _command()
    if "_FGSEG_COMPLETE" in os.environ:  # the shell asks for completions; typer answers and exits
        command(prog_name="fgseg")
    with command.make_context("fgseg", list(words)) as context:
        command.invoke(context)
    sys.stdout.flush()


def _command() -> Any:
    """The tree of commands, with options in the order of the panels of the help."""
    command: Any = typer.main.get_command(app)
    for entry in (command, *command.commands.values()):
        entry.params.sort(key=lambda param: _PANELS.index(getattr(param, "rich_help_panel", None)))
        if _names_width(entry.params) > get_terminal_size().columns // 2:
            entry.rich_markup_mode = None  # panels would cut the names of options
            continue
        for param in entry.params:  # brackets are no markup
            param.help = re.sub(r"(\[[a-zA-Z/@#])", r"\\\1", getattr(param, "help", None) or "")
    return command


def _names_width(options: Sequence[Any]) -> int:
    """The width of the two columns of a panel for the names of options: those that turn them on, and those for off."""
    on = max((len(name) for option in options for name in option.opts), default=0)
    return on + max((len(name) for option in options for name in option.secondary_opts), default=0)


def _discard_output() -> None:
    """Send the rest of stdout nowhere, after its reader has gone as in `| head`: flushing at exit would fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _usage(error: Any, words: list[str]) -> str:
    """One line for an argument that typer refuses."""
    context = getattr(error, "ctx", None)
    if (context is None or context.parent is None) and (hint := _missing_command(words)):
        return f"error: {hint}"
    command = context.command_path if context else "fgseg"
    message = error.format_message()
    if possible := getattr(error, "possibilities", None):
        (near,) = get_close_matches(error.option_name, possible, n=1, cutoff=0)
        message = f"{error.message}; did you mean {near}?"
    message = message.replace("Value error, ", "").rstrip(".")  # the prefix of pydantic, which typer uses
    return f"error: {message}; see {command} --help"


def _missing_command(words: list[str]) -> str:
    """What to write for images or options without a command; "" if the first word is neither."""
    first = words[0] if words else ""
    is_image = "." in first.strip(".") or Path(first).exists()  # click names commands that are alike
    if not (is_image or first.startswith("-")):
        return ""
    prompt = [] if {"-p", "--prompt", "--classes"} & set(words) else ["-p", "red"]
    return f"expected a command, got {first}; write {shlex.join(['fgseg', 'segment', *words, *prompt])}"
