"""Paths, and what the system says of them, in one line."""

from pathlib import Path

__all__ = ["absolute_path", "one_line", "reason"]


def absolute_path(path: Path) -> Path:
    """The absolute path of a file, equal for all paths to its folder. A symbolic link counts as a separate file."""
    try:
        return path.parent.resolve() / path.name
    except (OSError, RuntimeError, ValueError):  # links in a circle, a null character: its reader reports them
        return path.absolute()


def reason(error: Exception) -> str:
    """What the system or another library reports, in one line."""
    return one_line(getattr(error, "strerror", None) or error) or type(error).__name__


def one_line(text: object) -> str:
    """The text with every run of white space as one space; a path may contain line ends."""
    return " ".join(str(text).split())
