"""The command `fgseg`, also as `python -m fgseg`: Ctrl-C during imports, and SIGTERM."""

import signal
import sys
from types import FrameType

from fgseg.commands.exit_codes import INTERRUPTED

__all__ = ["main"]


def main() -> None:
    """Run the command on the words after its name; leaves with its exit status."""
    signal.signal(signal.SIGTERM, _leave)
    try:
        from fgseg.commands.main import main as command
    except KeyboardInterrupt:
        print("fgseg: interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
    command()


def _leave(number: int, _frame: FrameType | None) -> None:
    """End as on Ctrl-C, so that half-written files and folders of this process alone are removed."""
    sys.exit(128 + number)


if __name__ == "__main__":
    main()
