"""The command `fgseg`, and `python -m fgseg`: `fgseg.cli`, with Ctrl-C while it is being imported, and SIGTERM."""

import signal
import sys
from types import FrameType

from fgseg._status import INTERRUPTED

__all__ = ["main"]


def main() -> None:
    """Run the command on the words after its name; leaves with its exit status."""
    signal.signal(signal.SIGTERM, _leave)
    try:
        from fgseg.cli import main as command
    except KeyboardInterrupt:
        print("fgseg: interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
    command()


def _leave(number: int, _frame: FrameType | None) -> None:
    """End as on Ctrl-C, so that half-written files and folders of this process alone are removed."""
    sys.exit(128 + number)


if __name__ == "__main__":
    main()
