"""The guard in front of the server: it checks each request, and adds headers for the browser to each answer."""

import re
from collections.abc import MutableMapping, Sequence
from typing import Any
from urllib.parse import SplitResult, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fgseg.errors import OptionError
from fgseg.web.limits import MEGA, LimitError, Limits
from fgseg.web.routes import FIELDS_BYTES, HEALTH, error_response

__all__ = ["RequestGuard", "check_host_names"]

HOSTS = ("127.0.0.1", "localhost")

# The paths of Gradio that the page needs. Its routes for files, uploads, proxies and monitoring are closed: images stay
# in memory, so there are no files to serve.
_PAGES = ("/", HEALTH, "/config", "/theme.css", "/favicon.ico", "/manifest.json", "/robots.txt")
_PREFIXES = (
    "/session/",
    "/assets/",
    "/static/",
    "/gradio_api/queue/",
    "/gradio_api/heartbeat/",
    "/gradio_api/startup-events",
    "/gradio_api/cancel",
    "/gradio_api/reset",
)
_UPLOADS = ("/session", "/api/segment")

# Everything comes from this server. Gradio needs inline scripts and styles, and compiles templates.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; object-src 'none'; base-uri 'self'; "
    "form-action 'self'; frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}


class RequestGuard:
    """ASGI middleware around the whole application.

    It accepts the host names of this machine and those that were allowed, so that another web page cannot reach the
    server through a name that resolves to 127.0.0.1 (DNS rebinding), and it accepts browsers only from its own pages.
    starlette's TrustedHostMiddleware would check the host in as many lines, but answers in plain text and does
    not read the body of a refused request, which a sender of a large image sees as a broken connection.
    """

    def __init__(self, app: ASGIApp, *, limits: Limits, hosts: Sequence[str] = ()) -> None:
        """Keep the application, its limits, and further host names."""
        self.app, self.limits, self.hosts = app, limits, (*HOSTS, *hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        if scope["type"] != "http":  # the page uses no web sockets
            return
        refusal = self._refusal(scope)
        if refusal is not None:
            await _read_body(scope, receive, 2 * self.limits.upload_bytes)
        await (refusal or self.app)(scope, receive, _with_headers(send, scope["path"]))

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        headers, path, method = Headers(scope=scope), scope["path"], scope["method"]
        if _split(f"//{headers.get('host', '')}").hostname not in self.hosts:
            return JSONResponse({"error": f"host: expected {' or '.join(self.hosts)}"}, 403)
        origin = headers.get("origin")
        if origin is not None and _split(origin).netloc != headers.get("host"):
            return JSONResponse({"error": "origin: expected a request from this server's own page"}, 403)
        is_known = path in _PAGES or path in _UPLOADS or path.startswith(_PREFIXES)
        if not is_known or method not in ("GET", "HEAD", "POST"):
            return JSONResponse({"error": "path: not found"}, 404)
        return self._check_length(headers, path) if method == "POST" else None

    def _check_length(self, headers: Headers, path: str) -> JSONResponse | None:
        length = headers.get("content-length", "")
        if not length.isdecimal():
            return JSONResponse({"error": "body: expected a Content-Length; send the whole image at once"}, 411)
        limit = FIELDS_BYTES + (self.limits.upload_bytes if path in _UPLOADS else 0)
        if int(length) > limit:
            size, most = f"{int(length) / MEGA:.1f} MB", f"{limit / MEGA:g} MB"
            return error_response(LimitError(f"body: expected at most {most}, got {size}; send a smaller image"))
        return None


def check_host_names(names: Sequence[str]) -> tuple[str, ...]:
    """Host names in lower case.

    Raises:
        OptionError: one that is not a bare name.

    >>> check_host_names(["Masks.example.org"])
    ('masks.example.org',)
    """
    for name in names:
        if not re.fullmatch(r"[\w.-]+", name, re.ASCII):
            raise OptionError(
                f"--allow-host: expected a host name such as masks.example.org, got {name!r:.60}; leave out the "
                "scheme, the port and the path"
            )
    return tuple(name.lower() for name in names)


def _split(address: str) -> SplitResult:
    """The parts of an address; they are empty if it is malformed, so that it matches no host."""
    try:
        return urlsplit(address)
    except ValueError:  # unbalanced brackets, or brackets around something other than an IPv6 address
        return urlsplit("")


def _with_headers(send: Send, path: str) -> Send:
    """Add headers that stop the browser from loading anything from other servers, and from storing images."""
    is_constant = path.startswith(("/assets/", "/static/"))
    added = _HEADERS if is_constant else {**_HEADERS, "cache-control": "no-store"}

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(added)
        await send(message)

    return send_with_headers


async def _read_body(scope: Scope, receive: Receive, limit: int) -> None:
    """Read the body of a refused request up to a limit; otherwise its sender would see a broken connection."""
    length = Headers(scope=scope).get("content-length", "")
    if scope["method"] != "POST" or not length.isdecimal() or int(length) > limit:
        return
    message: MutableMapping[str, Any] = {"more_body": True}
    while message.get("more_body"):
        message = await receive()
