"""Exit statuses of the command line."""

__all__ = ["DONE", "FAILED", "INTERRUPTED", "SOME_FAILED", "USAGE"]

DONE = 0
FAILED = 1
USAGE = 2  # wrong arguments, or a model or file that they name is wrong
SOME_FAILED = 3  # finished, but some images failed
INTERRUPTED = 130  # 128 plus the number of SIGINT
