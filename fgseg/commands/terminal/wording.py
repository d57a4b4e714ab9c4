"""Messages of the package in the words of the command line: "max_hole: expected ..." becomes "--max-hole: ..."."""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["in_options", "know_options"]

# Arguments of the package whose option has another name. The other options are called as the arguments are.
_FLAGS = {
    "boxes_xyxy": "--box",
    "captions": "--prompt",
    "formats": "--format",
    "negatives": "--negative",
    "phrases": "--prompt",
    "prompts": "--prompt",
    "texts": "--prompt",
}


def know_options(names: Iterable[str]) -> None:
    """Learn the arguments of a command that are options."""
    for name in names:
        _FLAGS.setdefault(name, "--" + name.replace("_", "-"))


def in_options(message: str) -> str:
    """The message with options in place of arguments.

    An argument is the subject of the message, or it is given a value, as in route='long'. The entry of a list is named
    by its number, counted from 1.

    Examples:
        >>> know_options(["max_hole", "route"])
        >>> in_options("max_hole: expected a number; use route='long'")
        '--max-hole: expected a number; use --route long'
        >>> in_options("prompts[1]: expected a word")
        '--prompt (number 2): expected a word'
    """
    name = f"({'|'.join(sorted(_FLAGS, key=len, reverse=True))})"
    message = re.sub(rf"\b{name}\[(\d+)\]", lambda found: f"{_FLAGS[found[1]]} (number {int(found[2]) + 1})", message)
    message = re.sub(rf"^{name}(?=:| \()", lambda found: _FLAGS[found[1]], message)
    return re.sub(
        rf"(?<=[ (]){name}=(?:'([\w.-]+)'|\"([\w.-]+)\"|([\w.]+))",
        lambda found: f"{_FLAGS[found[1]]} {found[2] or found[3] or found[4]}",
        message,
    )
