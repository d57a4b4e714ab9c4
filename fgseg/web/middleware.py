"""The one door of the server: who may ask, for what, how much, and what the browser may do with the answer."""

import logging
from collections.abc import Collection
from typing import Any
from urllib.parse import SplitResult, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fgseg.web.limits import MEGA, LimitError, Limits
from fgseg.web.routes import FIELDS_BYTES, failure

__all__ = ["RequestGuard"]

HOSTS = ("127.0.0.1", "localhost")

# What the page needs of Gradio. Its routes for files, uploads, proxies and monitoring are not among them: pictures
# stay in memory, so there is no file to ask for.
_PAGES = ("/", "/config", "/theme.css", "/favicon.ico", "/manifest.json", "/robots.txt")
_BELOW = (
    "/assets/",
    "/static/",
    "/gradio_api/queue/",
    "/gradio_api/heartbeat/",
    "/gradio_api/startup-events",
    "/gradio_api/cancel",
    "/gradio_api/reset",
)
_OURS = ("/desk", "/api/segment")

# Everything from here; Gradio's own scripts and styles stand in the page, and it compiles templates.
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

log = logging.getLogger("fgseg")


class RequestGuard:
    """ASGI middleware around the whole application.

    It answers to this machine's own names only, so that no web page elsewhere can reach the server by a name that it
    resolves to 127.0.0.1, and takes requests with a body only from its own pages and from programs.
    """

    def __init__(self, app: ASGIApp, *, limits: Limits, hosts: Collection[str] = HOSTS) -> None:
        """Take the application, its limits, and the names the server has."""
        self.app, self.limits, self.hosts = app, limits, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it here."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # no web socket is used
            return
        refusal = self._refusal(scope)
        if refusal is not None:
            await _drained(scope, receive, 2 * self.limits.upload_bytes)
            await refusal(scope, receive, _guarded(send, scope["path"]))
            return
        await self._answered(scope, receive, _guarded(send, scope["path"]))

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        headers, path, method = Headers(scope=scope), scope["path"], scope["method"]
        if _parts(f"//{headers.get('host', '')}").hostname not in self.hosts:
            return JSONResponse({"error": f"host: expected {' or '.join(self.hosts)}"}, 403)
        origin = headers.get("origin")
        if origin is not None and _parts(origin).netloc != headers.get("host"):
            return JSONResponse({"error": "origin: requests are taken from this server's own page"}, 403)
        is_known = path in _PAGES or path.startswith(_BELOW) or path in _OURS or path.startswith("/desk/")
        if not is_known or method not in ("GET", "HEAD", "POST"):
            return JSONResponse({"error": "there is nothing here"}, 404)
        return self._too_large(headers, path) if method == "POST" else None

    def _too_large(self, headers: Headers, path: str) -> JSONResponse | None:
        length = headers.get("content-length", "")
        if not length.isdecimal():
            return JSONResponse({"error": "body: expected a Content-Length; send the whole picture at once"}, 411)
        room = FIELDS_BYTES + (self.limits.upload_bytes if path in _OURS else 0)
        if int(length) > room:
            return failure(
                LimitError(
                    f"body: expected at most {room / MEGA:g} MB, got {int(length) / MEGA:.1f} MB; "
                    "send a smaller picture"
                )
            )
        return None

    async def _answered(self, scope: Scope, receive: Receive, send: Send) -> None:
        """What the application answers; an error that it lets out shows nothing of itself."""
        has_begun = False

        async def sending(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self.app(scope, receive, sending)
        except Exception as error:
            if has_begun:
                log.error("an answer broke off", exc_info=error)
                return
            await failure(error)(scope, receive, send)


def _parts(address: str) -> SplitResult:
    """The parts of an address, all empty where it is none, so that it is taken for nobody's."""
    try:
        return urlsplit(address)
    except ValueError:  # a bracket without its other, or brackets around what is no IPv6 address
        return urlsplit("")


def _guarded(send: Send, path: str) -> Send:
    """Adds what keeps the browser from asking elsewhere, and from keeping pictures."""
    is_constant = path.startswith(("/assets/", "/static/"))

    async def guarded(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers[name] = value
            if not is_constant:
                headers["cache-control"] = "no-store"
        await send(message)

    return guarded


async def _drained(scope: Scope, receive: Receive, limit: int) -> None:
    """Read a refused body, up to a limit: who still sends would see a broken connection instead of the answer."""
    length = Headers(scope=scope).get("content-length", "")
    if scope["method"] != "POST" or not length.isdecimal() or int(length) > limit:
        return
    message: dict[str, Any] = {"more_body": True}
    while message.get("more_body"):
        message = dict(await receive())
