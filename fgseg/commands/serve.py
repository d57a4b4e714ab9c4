"""The command `fgseg serve`: the web page, on this machine only."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Annotated

import typer

from fgseg.commands.arguments import load_segmenter
from fgseg.commands.exit_codes import FAILED
from fgseg.commands.options import Device, Dtype, Model, Offline, Recipe, Revision, Verbose
from fgseg.commands.output import complain

__all__ = ["serve"]

MEGA = 1_000_000
NEEDED = ("gradio", "fastapi", "uvicorn")


def serve(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of 127.0.0.1; 0 takes a free one.")] = 7860,
    model: Model = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    recipe: Recipe = "value",
    revision: Revision = None,
    offline: Offline = False,
    max_megabytes: Annotated[float, typer.Option(min=0.001, help="Of a picture's file.")] = 25,
    max_megapixels: Annotated[float, typer.Option(min=0.001, help="Of a picture.")] = 25,
    max_requests: Annotated[int, typer.Option(min=1, help="At a time, those that wait their turn included.")] = 32,
    verbose: Verbose = False,
) -> None:
    """A web page in your browser, and an endpoint for programs, on this machine only."""
    if any(find_spec(package) is None for package in NEEDED):
        complain('the web page needs Gradio: pip install "fgseg[web]"')
        raise typer.Exit(FAILED)
    from fgseg.web.limits import Limits
    from fgseg.web.server import serve as run_server

    limits = Limits(
        upload_bytes=round(max_megabytes * MEGA), pixels=round(max_megapixels * MEGA), in_flight=max_requests
    )
    seg = load_segmenter(model, device, dtype, recipe, revision, offline, verbose)
    name = seg.encoder.name

    def ready(address: str) -> None:
        typer.echo(address)
        complain(f"serving {name} at {address}; Ctrl-C stops it")

    run_server(seg, limits, port, ready=ready)
