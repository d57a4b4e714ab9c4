"""What a user is told when something fails: a message of ours as it is, of anything else nothing but that it failed."""

import logging

from fgseg.errors import ImageError, OptionError, PromptError, ShapeError
from fgseg.web.limits import BusyError, GoneError, LimitError

__all__ = ["explain", "status_of"]

log = logging.getLogger("fgseg")

# Errors whose messages are about the request alone. Others could name a file of this machine.
_STATUS: dict[type[Exception], int] = {
    LimitError: 413,
    BusyError: 503,
    GoneError: 404,
    ImageError: 400,
    OptionError: 400,
    PromptError: 400,
    ShapeError: 400,
}


def explain(error: Exception) -> str:
    """The message for the user; an error that is not about the request is logged with its trace.

    >>> explain(LimitError("image: expected a file of at most 25 MB"))
    'image: expected a file of at most 25 MB'
    """
    if isinstance(error, tuple(_STATUS)):
        return str(error)
    log.error("a request failed", exc_info=error)
    return "This did not work, and not because of what you asked for. The server's log says why."


def status_of(error: Exception) -> int:
    """The HTTP status for an error."""
    return next((status for kind, status in _STATUS.items() if isinstance(error, kind)), 500)
