"""What the server accepts: limits of requests, and the errors with their messages and HTTP statuses."""

import logging
from dataclasses import dataclass, fields
from typing import Literal

from fgseg._checks import check_choice, check_number, check_whole
from fgseg.encoders.networks.clip import RECIPES
from fgseg.encoders.networks.guided import GUIDED_RECIPES
from fgseg.errors import FgsegError, ImageError, OptionError, PromptError, ShapeError
from fgseg.guides.loading import GUIDES
from fgseg.guides.propagation import PROPAGATIONS, Propagate

__all__ = [
    "GUIDE_NAMES",
    "MEGA",
    "REGION_MAPS",
    "BusyError",
    "GoneError",
    "LimitError",
    "Limits",
    "Mode",
    "SegmentationRequest",
    "explain",
    "prompt_lines",
    "status_of",
]

Mode = Literal["exclusive", "independent"]
MEGA = 1_000_000
GUIDE_NAMES = ("self", *GUIDES)
"""The guides that a request may name: no folders of this machine, and no other models of the hub."""
REGION_MAPS = ("superpixels", "eomt")
"""The region maps that a request may name: no files of this machine."""

log = logging.getLogger("fgseg")


class LimitError(FgsegError, ValueError):
    """A request is larger than the server accepts: its file, its pixels or its prompts."""


class BusyError(FgsegError, RuntimeError):
    """The server already has as many requests as it accepts at a time."""


class GoneError(FgsegError, LookupError):
    """An image is no longer kept."""


@dataclass(frozen=True)
class SegmentationRequest:
    """Prompts and options, as `Segmenter.segment` takes them.

    Attributes:
        prompts: one class each; commas separate synonyms.
        negatives: words that compete with the prompts but label no pixel.
        mode: "exclusive" or "independent".
        threshold: minimum presence, 0 to 1, or "auto"; None takes the model's own.
        resolution: one of `SegmentationService.resolutions`.
        min_area: in pixels; smaller connected components are dropped. "auto": specks join what is around them.
        propagate: "none", "patches", "pixels" or "both".
        guide: one of GUIDE_NAMES; None takes that of the model as it was started, if it has one.
        recipe: "proxy", "corr" or another recipe of the model; None takes "value" with a guide, else the model's own.
        region_map: one of REGION_MAPS, None for none.
        vote: whether every region takes the class of most of its pixels.

    Raises:
        OptionError: an unknown choice, or a threshold or an area out of its range.
    """

    prompts: tuple[str, ...]
    negatives: tuple[str, ...] = ()
    mode: Mode = "exclusive"
    threshold: float | Literal["auto"] | None = None
    resolution: str = "auto"
    min_area: int | Literal["auto"] = "auto"
    propagate: Propagate = "none"
    guide: str | None = None
    recipe: str | None = None
    region_map: str | None = None
    vote: bool = False

    def __post_init__(self) -> None:
        check_choice("mode", self.mode, ("exclusive", "independent"))
        check_choice("propagate", self.propagate, PROPAGATIONS)
        named = {"guide": GUIDE_NAMES, "recipe": (*RECIPES, *GUIDED_RECIPES), "region_map": REGION_MAPS}
        for name, choices in named.items():
            if (chosen := getattr(self, name)) is not None:
                check_choice(name, chosen, choices)
        if self.threshold is not None and self.threshold != "auto":
            check_number("threshold", self.threshold, low=0, high=1, hint="a presence, or 'auto'")
        if self.min_area != "auto":
            check_whole("min_area", self.min_area, low=0, high=2**53)


@dataclass(frozen=True)
class Limits:
    """The limits of the server.

    Attributes:
        upload_bytes: size of one image file.
        pixels: pixels of one image.
        prompts: number of prompts, and of negatives.
        words: number of synonyms of all prompts and negatives together.
        prompt_length: characters of one prompt with its synonyms, or of one negative.
        in_flight: requests at a time, including those that wait.
        pictures: images that are kept; the least recently used one is dropped first.
        kept_bytes: size of all images that are kept, with their features.
        idle_seconds: an image that was not used for longer is dropped the next time that any image is used.

    Raises:
        OptionError: a limit is below 1.
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
                "save a smaller file"
            )

    def check_request(self, request: SegmentationRequest) -> None:
        """Refuse too many or too long prompts.

        Raises:
            LimitError: they are.
        """
        for name, lines in (("prompts", request.prompts), ("negatives", request.negatives)):
            if len(lines) > self.prompts:
                raise LimitError(f"{name}: expected at most {self.prompts}, got {len(lines)}; send the rest separately")
            for number, line in enumerate(lines, start=1):
                if len(line) > self.prompt_length:
                    raise LimitError(
                        f"{name}: expected at most {self.prompt_length} characters per line, got {len(line)} in line "
                        f"{number}; write a shorter phrase"
                    )
        words = sum(line.count(",") + 1 for line in (*request.prompts, *request.negatives))
        if words > self.words:
            raise LimitError(
                f"prompts: expected at most {self.words} words with synonyms and negatives, got {words}; "
                "leave some synonyms out"
            )


def prompt_lines(text: str) -> tuple[str, ...]:
    r"""The lines of a text, without surrounding white space and without empty lines.

    >>> prompt_lines("red\n\n  blue, navy \n")
    ('red', 'blue, navy')
    """
    if not isinstance(text, str):
        raise OptionError(f"prompts: expected text with one prompt per line, got {type(text).__name__}")
    return tuple(line.strip() for line in text.splitlines() if line.strip())


# Errors whose messages describe the request alone. The messages of other errors could name a file of this machine.
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
    """The message for the user. An error that is not about the request is logged with its traceback.

    >>> explain(LimitError("image: expected a file of at most 25 MB"))
    'image: expected a file of at most 25 MB'
    """
    if isinstance(error, tuple(_STATUS)):
        return str(error)
    log.error("a request failed", exc_info=error)
    return "Something went wrong on the server. Its log has the details."


def status_of(error: Exception) -> int:
    """The HTTP status of an error."""
    return next((status for kind, status in _STATUS.items() if isinstance(error, kind)), 500)
