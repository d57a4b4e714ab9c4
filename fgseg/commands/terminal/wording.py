"""Messages of the package in the words of the command line: "max_hole: expected ..." becomes "--max-hole: ..."."""

from __future__ import annotations

import re
from collections.abc import Mapping

__all__ = ["in_options", "know_options"]

# Arguments of the package that are called otherwise in the commands. The commands add the others.
_FLAGS = {
    "boxes_xyxy": "--box",
    "captions": "--prompt",
    "formats": "--format",
    "negatives": "--negative",
    "phrases": "--prompt",
    "prompts": "--prompt",
    "region_map": "--regions",
    "texts": "--prompt",
}


def know_options(flags: Mapping[str, str]) -> None:
    """Learn the options of a command: argument -> option. An argument that is known keeps its option."""
    for name, flag in flags.items():
        _FLAGS.setdefault(name, flag)  # the package calls other things prompts than `fgseg bench` does


def in_options(message: str) -> str:
    """The message with options in place of arguments.

    An argument is the subject of the message, or it is given a value, as in route='long', or its name has an
    underscore, as no other word has. The entry of a list is named by its number, counted from 1.

    Examples:
        >>> know_options({"max_hole": "--max-hole", "route": "--route"})
        >>> in_options("route: expected short or long; use route='long' and a smaller max_hole")
        '--route: expected short or long; use --route long and a smaller --max-hole'
        >>> in_options("prompts[1]: expected a word")
        '--prompt (number 2): expected a word'
    """
    name = f"({'|'.join(sorted(_FLAGS, key=len, reverse=True))})"
    message = re.sub(rf"\b{name}\[(\d+)\]", lambda found: f"{_FLAGS[found[1]]} (number {int(found[2]) + 1})", message)
    message = re.sub(rf"^{name}(?=:| \()", lambda found: _FLAGS[found[1]], message)
    message = re.sub(
        rf"(?<=[ (]){name}=(?:'([\w.-]+)'|\"([\w.-]+)\"|([\w.]+))",
        lambda found: f"{_FLAGS[found[1]]} {found[2] or found[3] or found[4]}",
        message,
    )
    return re.sub(r"(?<=[ (])[a-z]+_[a-z_]+(?=[ ,;)]|$)", lambda found: _FLAGS.get(found[0], found[0]), message)
