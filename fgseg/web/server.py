"""The server on 127.0.0.1: the page and the endpoint behind one guard, and a temporary folder."""

import asyncio
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp

from fgseg._files.temporary import private_folder
from fgseg.errors import OptionError
from fgseg.segmenter import Segmenter
from fgseg.web.examples import examples
from fgseg.web.limits import Limits
from fgseg.web.middleware import RequestGuard
from fgseg.web.routes import routes
from fgseg.web.service import SegmentationService

__all__ = ["HOST", "application", "serve"]

HOST = "127.0.0.1"
KEEP_ALIVE_SECONDS = 75
"""How long an idle connection is kept open. HTTP clients close theirs after about five seconds. With uvicorn's default,
which is also five, the server would reset connections on which a client has just sent a request."""
SHUTDOWN_SECONDS = 2  # for open connections, when the server stops


def application(service: SegmentationService, hosts: Sequence[str] = ()) -> ASGIApp:
    """The page and the endpoint as an ASGI application, which also answers to further host names."""
    from fgseg.web.page import mount_page  # Gradio reads its environment variables when it is imported

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.router.routes.extend(routes(service))

    async def mounted() -> FastAPI:
        return mount_page(app, service)

    # Without a running event loop, Gradio opens one for every lock and never closes it.
    return RequestGuard(asyncio.run(mounted()), limits=service.limits, hosts=hosts)


def serve(
    seg: Segmenter,
    limits: Limits,
    port: int,
    *,
    hosts: Sequence[str] = (),
    ready: Callable[[str], None],
    offline: bool | None = None,
) -> None:
    """Serve until interrupted.

    Args:
        seg: the model.
        limits: of requests.
        port: on 127.0.0.1; 0 picks a free one.
        hosts: names of a balancer in front of the server, as `check_host_names` returns them.
        ready: called with the address as soon as the server accepts requests.
        offline: True never downloads a guide; None follows HF_HUB_OFFLINE.

    Raises:
        OptionError: the port is taken or cannot be used.
    """
    with _listening(port) as listener, _gradio_folder() as folder:
        service = SegmentationService(seg, limits, folder, examples(), offline=offline)
        config = uvicorn.Config(
            application(service, hosts),
            log_level="error",  # a warning per malformed request would let any client fill the log
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=SHUTDOWN_SECONDS,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            ws="none",
        )
        ready(f"http://{HOST}:{listener.getsockname()[1]}")
        try:
            uvicorn.Server(config).run(sockets=[listener])
        finally:
            service.queue.close()


def _listening(port: int) -> socket.socket:
    try:
        return socket.create_server((HOST, port))
    except (OSError, OverflowError) as error:
        raise OptionError(
            f"--port: expected a free port, got {port} ({type(error).__name__}); choose another, or 0 for a free one"
        ) from error


@contextmanager
def _gradio_folder() -> Iterator[Path]:
    """A private folder, for Gradio and for downloads."""
    with private_folder("fgseg-web-") as folder:
        os.environ["GRADIO_TEMP_DIR"] = str(folder)
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        yield folder
