"""Exit statuses of the command line."""

__all__ = ["DONE", "FAILED", "INTERRUPTED", "SOME_FAILED", "USAGE"]

DONE = 0
FAILED = 1
USAGE = 2  # the command cannot be carried out as typed
SOME_FAILED = 3  # finished, but some images failed
INTERRUPTED = 130  # as shells count: 128 and the signal
