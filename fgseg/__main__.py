"""The command `fgseg`, and `python -m fgseg`: `fgseg.cli`, and Ctrl-C while it is being imported."""

import sys

__all__ = ["main"]

INTERRUPTED = 130  # as shells count: 128 and the signal


def main() -> None:
    """Run the command on the words after its name; leaves with its exit status."""
    try:
        from fgseg.cli import main as command
    except KeyboardInterrupt:
        print("fgseg: interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
    command()


if __name__ == "__main__":
    main()
