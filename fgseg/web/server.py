"""The application on 127.0.0.1: page and endpoint behind one door, a folder of its own that goes with it."""

import asyncio
import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp

from fgseg.errors import OptionError
from fgseg.segmenter import Segmenter
from fgseg.web.examples import examples
from fgseg.web.limits import Limits
from fgseg.web.middleware import RequestGuard
from fgseg.web.routes import routes
from fgseg.web.service import SegmentationService

__all__ = ["HOST", "application", "serve"]

HOST = "127.0.0.1"
IDLE_SECONDS = 75
"""A connection is kept for as long. Programs let go of one after five seconds or so; a server that did it as soon, as
uvicorn by itself does, would reset connections on which a request was just sent."""
PATIENCE = 2  # seconds for open connections to end when the server stops


def application(bench: SegmentationService) -> ASGIApp:
    """Page and endpoint on a bench, as an ASGI application."""
    from fgseg.web.page import mounted  # after `_private` has said where Gradio may write

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.router.routes.extend(routes(bench))

    async def made() -> FastAPI:
        return mounted(app, bench)

    # Outside a running loop Gradio opens one for every lock and closes none.
    return RequestGuard(asyncio.run(made()), limits=bench.limits)


def serve(seg: Segmenter, limits: Limits, port: int, *, ready: Callable[[str], None]) -> None:
    """Serve until interrupted.

    Args:
        seg: the model.
        limits: what the server takes.
        port: 0 takes a free one.
        ready: told the address once it can be asked for.

    Raises:
        OptionError: the port is taken, or not one of this machine's.
    """
    with _listening(port) as listener, _private_folder() as folder:
        bench = SegmentationService(seg, limits, folder, examples())
        config = uvicorn.Config(
            application(bench),
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=PATIENCE,
            timeout_keep_alive=IDLE_SECONDS,
            ws="none",
        )
        listener.listen()
        ready(f"http://{HOST}:{listener.getsockname()[1]}")
        try:
            uvicorn.Server(config).run(sockets=[listener])
        finally:
            bench.turns.close()


@contextmanager
def _listening(port: int) -> Iterator[socket.socket]:
    with socket.socket() as listener:
        if os.name == "posix":  # elsewhere it would let two servers share a port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
        except (OSError, OverflowError) as error:
            raise OptionError(
                f"--port: expected a free port, got {port} ({error.__class__.__name__}); "
                "choose another, or 0 for any free one"
            ) from error
        yield listener


@contextmanager
def _private_folder() -> Iterator[Path]:
    """A folder that only this user reads, for Gradio and for results while they are sent; gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="fgseg-web-") as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        yield Path(folder)
