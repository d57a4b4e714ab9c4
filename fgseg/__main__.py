"""The command `fgseg`, also `python -m fgseg`. It handles Ctrl-C during imports, and SIGTERM."""

import atexit
import gc
import os
import signal
import sys
from types import FrameType

__all__ = ["main"]


def main() -> None:
    """Run the command line and exit with its status."""
    signal.signal(signal.SIGTERM, _leave)
    if "--offline" in sys.argv:
        os.environ["HF_HUB_OFFLINE"] = "1"  # also for the mask models that transformers fetches
    atexit.register(gc.freeze)  # a last search for garbage among torch's objects takes a third of a second
    try:
        from fgseg.commands.main import main as command
    except KeyboardInterrupt:
        print("fgseg: interrupted", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    command()


def _leave(number: int, _frame: FrameType | None) -> None:
    """Exit through the cleanup handlers, as Ctrl-C does, so that partial files and temporary folders are removed."""
    sys.exit(128 + number)


if __name__ == "__main__":
    main()
