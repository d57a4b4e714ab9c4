"""What the server takes: sizes and counts, each with a message that says what to do."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal

from fgseg._checks import check_choice, check_number
from fgseg.errors import FgsegError, ImageError, OptionError, PromptError, ShapeError

__all__ = [
    "MEGA",
    "Asked",
    "BusyError",
    "GoneError",
    "LimitError",
    "Limits",
    "Mode",
    "explain",
    "prompt_lines",
    "status_of",
]

Mode = Literal["exclusive", "independent"]
MEGA = 1_000_000


class LimitError(FgsegError, ValueError):
    """More than the server takes: upload, pixels, prompts."""


class BusyError(FgsegError, RuntimeError):
    """As many requests are being worked on as the server takes at once."""


class GoneError(FgsegError, LookupError):
    """A picture that is no longer kept."""


@dataclass(frozen=True)
class Asked:
    """What to look for and how, as `Segmenter.segment` takes it.

    Attributes:
        prompts: a class each; commas separate synonyms.
        negatives: words for "not this".
        mode: "exclusive" or "independent".
        threshold: least presence, 0 to 1, or "auto"; None takes the model's own.
        resolution: as in `Segmenter.encode`; one of `resolutions` of the bench.

    Raises:
        OptionError: an unknown mode, or a threshold out of its range.
    """

    prompts: tuple[str, ...]
    negatives: tuple[str, ...] = ()
    mode: Mode = "exclusive"
    threshold: float | Literal["auto"] | None = None
    resolution: str = "auto"

    def __post_init__(self) -> None:
        check_choice("mode", self.mode, ("exclusive", "independent"))
        if self.threshold is not None and self.threshold != "auto":
            check_number("threshold", self.threshold, low=0, high=1, hint="a presence, or 'auto'")


@dataclass(frozen=True)
class Limits:
    """The server's limits.

    Attributes:
        upload_bytes: of one picture's file.
        pixels: of one picture.
        prompts: classes, and as many negative words.
        words: synonyms of all prompts and negatives together.
        prompt_length: characters of one prompt with its synonyms, or of one negative.
        in_flight: requests at a time, those that wait their turn included.
        pictures: kept at a time; the least recently used goes first.
        kept_bytes: of all pictures that are kept, with their features.
        idle_seconds: a picture that nobody used for as long is dropped when any picture is next opened or used.

    Raises:
        OptionError: a limit below 1.
    """

    upload_bytes: int = 25 * MEGA
    pixels: int = 25 * MEGA
    prompts: int = 32
    words: int = 128
    prompt_length: int = 200
    in_flight: int = 32
    pictures: int = 64
    kept_bytes: int = 1500 * MEGA
    idle_seconds: int = 3600

    def __post_init__(self) -> None:
        for field in fields(self):
            check_number(field.name, getattr(self, field.name), low=1, high=2**53)

    def check_upload(self, size_bytes: int) -> None:
        """Refuse a file that is too large.

        Raises:
            LimitError: it is.
        """
        if size_bytes > self.upload_bytes:
            raise LimitError(
                f"image: expected a file of at most {self.upload_bytes / MEGA:g} MB, got {size_bytes / MEGA:.1f} MB; "
                "save it smaller"
            )

    def check_asked(self, asked: Asked) -> None:
        """Refuse too many or too long prompts.

        Raises:
            LimitError: they are.
        """
        for name, words in (("prompts", asked.prompts), ("negatives", asked.negatives)):
            if len(words) > self.prompts:
                raise LimitError(f"{name}: expected at most {self.prompts}, got {len(words)}; run the rest afterwards")
            self._check_lengths(name, words)
        count = sum(line.count(",") + 1 for line in (*asked.prompts, *asked.negatives))
        if count > self.words:
            raise LimitError(
                f"prompts: expected at most {self.words} words with synonyms and negatives, got {count}; "
                "leave some synonyms out"
            )

    def _check_lengths(self, name: str, words: Sequence[str]) -> None:
        for place, line in enumerate(words, start=1):
            if len(line) > self.prompt_length:
                raise LimitError(
                    f"{name}: expected at most {self.prompt_length} characters a line, got {len(line)} in line "
                    f"{place}; write a shorter phrase"
                )


def prompt_lines(text: str) -> tuple[str, ...]:
    r"""The lines that hold something, without the space around them.

    >>> prompt_lines("red\n\n  blue, navy \n")
    ('red', 'blue, navy')
    """
    if not isinstance(text, str):
        raise OptionError(f"prompts: expected text, a prompt a line, got {type(text).__name__}")
    return tuple(line.strip() for line in text.splitlines() if line.strip())


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
