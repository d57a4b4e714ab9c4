"""Routes beside the page: its uploads and downloads, and the endpoint for programs."""

from collections.abc import Awaitable, Callable
from typing import Any, cast
from urllib.parse import unquote

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from fgseg.errors import ImageError, OptionError
from fgseg.guides.propagation import Propagate
from fgseg.web.limits import LimitError, Limits, Mode, SegmentationRequest, explain, status_of
from fgseg.web.service import CUTOUT, FILES, SegmentationService

__all__ = ["FIELDS_BYTES", "HEALTH", "error_response", "routes"]

HEALTH = "/health"
"""The address that a balancer asks whether the server is there. It is answered beside the work, even at full load."""

FIELDS_BYTES = 1_000_000
"""Largest size of everything in a request but the image."""
BOXES = 100
INDEX_DIGITS = 6
FIELDS = (
    "image", "prompt", "negative", "mode", "threshold", "resolution", "propagate", "guide", "recipe", "region_map",
    "vote", "box",
)  # fmt: skip

Handler = Callable[[Request], Awaitable[Response]]


def routes(service: SegmentationService) -> list[Route]:
    """The routes of a service."""

    async def upload(request: Request) -> Response:
        """The body is the image; the answer is the secret of its session."""
        data = await request.body()
        name = unquote(request.headers.get("x-file-name", "image.png"))
        return JSONResponse({"secret": await run_in_threadpool(service.open, data, name)})

    async def download(request: Request) -> Response:
        name, secret = request.path_params["name"], request.path_params["secret"]
        if name == CUTOUT:
            data = await run_in_threadpool(service.cutout, secret, _indices(request.query_params.get("classes", "")))
        else:
            data = await run_in_threadpool(service.file, secret, name)
        media_type = "image/png" if name == CUTOUT else FILES[name][1]
        return Response(data, media_type=media_type, headers={"content-disposition": f'attachment; filename="{name}"'})

    async def segment(request: Request) -> Response:
        # The limit of fields is above that of prompts, so that a request with too many prompts gets its own error.
        count = 2 * service.limits.prompts + BOXES + len(FIELDS)
        async with request.form(max_files=1, max_fields=count, max_part_size=FIELDS_BYTES) as form:
            data, name = await _image(form, service.limits)
            answer = await run_in_threadpool(service.answer, data, name, _request(form), _boxes(form))
        return JSONResponse(answer)

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    return [
        Route(HEALTH, health, methods=["GET"]),
        Route("/session", _explains_errors(upload), methods=["POST"]),
        Route("/session/{secret}/{name}", _explains_errors(download), methods=["GET"]),
        Route("/api/segment", _explains_errors(segment), methods=["POST"]),
    ]


def error_response(error: Exception) -> JSONResponse:
    """An error as JSON: {"error": message}."""
    if isinstance(error, HTTPException):  # raised by starlette for a form that it cannot read
        return JSONResponse({"error": f"form: {error.detail}"}, error.status_code)
    status = status_of(error)
    headers = {"retry-after": "1"} if status == 503 else None
    return JSONResponse({"error": explain(error)}, status, headers)


def _explains_errors(handler: Handler) -> Handler:
    async def explained(request: Request) -> Response:
        try:
            return await handler(request)
        except ClientDisconnect:  # nobody is left to read an answer, and nothing went wrong here
            return Response(status_code=400)
        except Exception as error:  # whatever it is, the answer is JSON
            return error_response(error)

    return explained


async def _image(form: FormData, limits: Limits) -> tuple[bytes, str]:
    upload = form.get("image")
    if not isinstance(upload, UploadFile):
        raise ImageError("image: expected a file in the form's field 'image', got none; curl -F image=@photo.jpg")
    if upload.size is not None:
        limits.check_upload(upload.size)
    return await upload.read(), upload.filename or "image.png"


def _request(form: FormData) -> SegmentationRequest:
    unknown = sorted(set(form) - set(FIELDS))
    if unknown:
        raise OptionError(f"form: expected the fields {', '.join(FIELDS)}, got {unknown[0]!r:.60}")
    threshold = form.get("threshold")
    return SegmentationRequest(
        _texts(form, "prompt"),
        _texts(form, "negative"),
        cast(Mode, form.get("mode", "exclusive")),
        threshold if threshold in (None, "auto") else _number("threshold", threshold),  # type: ignore[arg-type]
        str(form.get("resolution", "auto")),
        propagate=cast(Propagate, form.get("propagate", "none")),
        guide=_optional(form, "guide"),
        recipe=_optional(form, "recipe"),
        region_map=_optional(form, "region_map"),
        vote=_flag(form, "vote"),
    )


def _optional(form: FormData, name: str) -> str | None:
    """The text of a field; None where it is left out or says "none"."""
    value = form.get(name, "none")
    return None if value == "none" else str(value)


def _flag(form: FormData, name: str) -> bool:
    value = form.get(name, "false")
    if value not in ("true", "false"):
        raise OptionError(f"{name}: expected true or false, got {value!r:.60}")
    return value == "true"


def _texts(form: FormData, name: str) -> tuple[str, ...]:
    values = form.getlist(name)
    if not all(isinstance(value, str) for value in values):
        raise OptionError(f"{name}: expected text, got a file")
    return tuple(str(value).strip() for value in values)


def _boxes(form: FormData) -> list[list[float]]:
    values = _texts(form, "box")
    if len(values) > BOXES:
        raise LimitError(f"box: expected at most {BOXES}, got {len(values)}; send the rest in another request")
    boxes = [[_number("box", number) for number in value.split(",")] for value in values]
    for value, box in zip(values, boxes, strict=True):
        if len(box) != 4:
            raise OptionError(f"box: expected LEFT,TOP,RIGHT,BOTTOM in pixels, got {value!r:.60}")
    return boxes


def _indices(value: str) -> list[int]:
    """The indices of classes in a query.

    >>> _indices("0,2")
    [0, 2]
    """
    numbers = value.split(",")
    if not all(number.isdecimal() and len(number) < INDEX_DIGITS for number in numbers):
        raise OptionError(f"classes: expected indices such as 0,2, got {value!r:.60}")
    return [int(number) for number in numbers]


def _number(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise OptionError(f"{name}: expected a number, got {value!r:.60}") from error
