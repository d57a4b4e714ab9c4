"""One sentence for each way in which the hub fails: what happened, and what to do next."""

import errno
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["HubIsBusyError", "HubRequest", "failure_sentence", "is_passing", "seconds_to_wait"]

_NEXT = "download it once with a network, give a folder, or use the embedded model 'mini'"
_NO_ACCESS = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST}
_FULL = {errno.ENOSPC, errno.EDQUOT}


class HubIsBusyError(Exception):
    """The hub asks to wait for long; `seconds` says how long."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"wait {seconds:g} seconds")
        self.seconds = seconds


@dataclass(frozen=True)
class HubRequest:
    """What was asked for, for the message.

    Attributes:
        repository: hub id.
        revision: commit, tag or branch.
        endpoint: address of the hub.
        cache: folder of the hub's cache.
        has_token: whether a token was sent.
        timeout: seconds to wait for an answer.
    """

    repository: str
    revision: str
    endpoint: str
    cache: Path
    has_token: bool
    timeout: float


def failure_sentence(error: BaseException, request: HubRequest) -> str:
    """What an error of the hub's client, or of the disk below it, means and what to do next."""
    error = _cause(error)
    for explain in (_before_asking, _refusal, _status, _connection, _disk):
        if said := explain(error, request):
            return said
    reason = " ".join(str(error).split())
    return (
        f"the hub is out of reach and it is not in the cache ({type(error).__name__} at {request.endpoint}: "
        f"{reason:.200}); {_NEXT}"
    )


def is_passing(error: BaseException) -> bool:
    """Whether the same request may succeed in a moment: a fault of the server, or a connection that broke."""
    error = _cause(error)
    broke = {"NetworkError", "RemoteProtocolError"} & _kinds(error)
    return bool(broke) or _status_of(error) in {429, 500, 502, 503, 504}


def seconds_to_wait(error: BaseException) -> float | None:
    """The seconds that a hub with too many requests asks to wait; None where it names none."""
    headers = _headers(error)
    asked, window = headers.get("Retry-After", ""), headers.get("RateLimit", "")
    found = re.fullmatch(r"\d+", asked) or re.search(r"(?<=;t=)\d+", window)
    return float(found[0]) if found else None


def _before_asking(error: BaseException, request: HubRequest) -> str | None:
    """What an error means that the client raises before it asks, or instead of asking again."""
    from huggingface_hub import errors

    if isinstance(error, errors.HFValidationError):
        return f"not a hub id ({error})"
    if isinstance(error, errors.OfflineModeIsEnabled):
        return f"it is not in the cache, and offline mode is on (HF_HUB_OFFLINE); {_NEXT}"
    return _busy(error.seconds, request) if isinstance(error, HubIsBusyError) else None


def _refusal(error: BaseException, request: HubRequest) -> str | None:
    """What it means that the hub does not show this model, revision or file to this user."""
    from huggingface_hub import errors

    page = f"{request.endpoint}/{request.repository}"
    if isinstance(error, errors.GatedRepoError):
        if request.has_token:
            return f"its owner has not let your account in; accept the terms at {page}, then run it again"
        return f"its owner asks for a login; accept the terms at {page}, then `hf auth login`"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"the hub has no revision {request.revision!r}; leave revision out, or correct it"
    if _status_of(error) == 401 and request.has_token:
        return (
            "the hub refuses your token (401), or has no such model; log in again with `hf auth login`, or unset "
            f"HF_TOKEN, and compare the name with {page}"
        )
    if isinstance(error, errors.RepositoryNotFoundError) or _status_of(error) == 401:
        return (
            "the hub has no model of this name, or it is private; correct the name (`fgseg models` lists those that "
            "fgseg knows), or `hf auth login` for a private one"
        )
    if isinstance(error, errors.EntryNotFoundError):
        return "the hub lists a file that it does not have; name another revision, or give a folder"
    return None


def _status(error: BaseException, request: HubRequest) -> str | None:
    """What an answer with an HTTP status means; None for an error without one."""
    status = _status_of(error)
    if status is None:
        return None
    page = f"{request.endpoint}/{request.repository}"
    message = _headers(error).get("X-Error-Message")
    said = f": {message:.120}" if message else ""
    if status == 403:
        return f"the hub forbids it (403{said}); use a token that may read {page}: `hf auth login`"
    if status == 429:
        return _busy(seconds_to_wait(error), request)
    if status >= 500:
        return f"the hub fails at the moment ({status}); run it again in a few minutes, or give a folder"
    return f"the hub answers {status}{said}; look at {page}, or give a folder"


def _connection(error: BaseException, request: HubRequest) -> str | None:
    """What it means that no answer came, or half of one."""
    from huggingface_hub import errors

    if "TimeoutException" in _kinds(error) or isinstance(error, TimeoutError):
        return (
            f"the hub at {request.endpoint} did not answer within {request.timeout:g} seconds; run it again, or wait "
            "longer with HF_HUB_ETAG_TIMEOUT=60 HF_HUB_DOWNLOAD_TIMEOUT=60"
        )
    if isinstance(error, errors.FileMetadataError):
        return (
            f"what answers at {request.endpoint} is not a hub; correct HF_ENDPOINT, or look at the proxy's login page"
        )
    if "Consistency check failed" in str(error) or "RemoteProtocolError" in _kinds(error):
        return "the download broke off; run it again"
    return None


def _busy(seconds: float | None, request: HubRequest) -> str:
    when = f"in {seconds:g} seconds" if seconds is not None else "in a few minutes"
    login = "" if request.has_token else "; with a login (`hf auth login`) more requests are allowed"
    return f"the hub has too many requests from here (429); run it again {when}{login}"


def _disk(error: BaseException, request: HubRequest) -> str | None:
    """What an error of the file system means; None for one of another kind."""
    if not isinstance(error, OSError):
        return None
    if error.errno in _FULL:
        return f"the disk of {request.cache} is full; free some space, or name another disk: HF_HOME=/folder/with/space"
    if error.errno in _NO_ACCESS:
        place = error.filename or request.cache
        why = os.strerror(error.errno or 0)
        return f"cannot write to {place} ({why}); allow it, or name another folder: HF_HOME=/other/folder"
    return None


def _status_of(error: BaseException) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)


def _headers(error: BaseException) -> Mapping[str, str]:
    return getattr(getattr(error, "response", None), "headers", {})


def _cause(error: BaseException) -> BaseException:
    """The error that the hub's client hides behind "cannot be found in the cache"."""
    hides = {"LocalEntryNotFoundError", "ValueError"}
    while type(error).__name__ in hides and error.__cause__ is not None:
        error = error.__cause__
    return error


def _kinds(error: BaseException) -> set[str]:
    """Names of the classes of an error. The client's HTTP library is another in each of its versions."""
    return {base.__name__ for base in type(error).__mro__}
