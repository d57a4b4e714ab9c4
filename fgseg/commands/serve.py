"""The command `fgseg serve`: the web page and the endpoint, on this machine only."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Annotated

import typer
from typer import Option

from fgseg.commands.arguments import load_segmenter
from fgseg.commands.options import ModelOptions, with_option_groups
from fgseg.commands.terminal.output import FAILED, complain
from fgseg.commands.terminal.status import STATUS

__all__ = ["serve"]

REQUIRED = ("gradio", "fastapi", "uvicorn")


@with_option_groups
def serve(
    *,
    port: Annotated[int, Option(min=0, max=65535, help="Port on 127.0.0.1; 0 picks a free one.")] = 7860,
    allow_host: Annotated[
        list[str] | None,
        Option(metavar="NAME", help="Host name of a balancer in front, such as masks.example.org; repeat for more."),
    ] = None,
    model: ModelOptions,
    max_megabytes: Annotated[float, Option(min=0.001, help="Largest image file, in megabytes.")] = 25,
    max_megapixels: Annotated[float, Option(min=0.001, help="Largest image, in megapixels.")] = 25,
    max_requests: Annotated[int, Option(min=1, help="Most requests at a time, including those that wait.")] = 32,
) -> None:
    """Serve a web page and a JSON endpoint on this machine only."""
    if any(find_spec(package) is None for package in REQUIRED):
        complain('the web page needs Gradio: pip install "fgseg[web]"')
        raise typer.Exit(FAILED)
    STATUS.start(quiet=False)
    from fgseg.web.limits import MEGA, Limits
    from fgseg.web.middleware import check_host_names
    from fgseg.web.server import serve as run_server

    limits = Limits(
        upload_bytes=round(max_megabytes * MEGA), pixels=round(max_megapixels * MEGA), in_flight=max_requests
    )
    hosts = check_host_names(allow_host or ())
    seg = load_segmenter(model)
    STATUS.stop()
    name = seg.encoder.name

    def ready(address: str) -> None:
        typer.echo(address)
        complain(f"serving {name} at {address}; Ctrl-C to stop")

    run_server(seg, limits, port, hosts=hosts, ready=ready, offline=model.offline or None)
