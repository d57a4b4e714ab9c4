"""What a command leaves, and its exit statuses."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

DONE, FAILED, USAGE, SOME_FAILED, INTERRUPTED = 0, 1, 2, 3, 130


@dataclass(frozen=True)
class Run:
    """Exit status, stdout and stderr of a command; `closing` is the line of stderr on images, time and files."""

    code: int
    out: str
    err: str
    closing: str = ""

    @property
    def records(self):
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def complaints(self):
        return self.err.splitlines()


CLOSING = re.compile(r"fgseg: \d+ images? in \d.*\n")


def run_of(code, captured):
    """The run with this exit status and what it printed, as pytest's capsys has it."""
    closing = CLOSING.search(captured.err)
    return Run(code, captured.out, CLOSING.sub("", captured.err), closing[0] if closing else "")


def assert_refused(run, *texts):
    """The run has one line on stderr that holds these texts, nothing on stdout, and exit status 2."""
    assert (run.code, run.out, len(run.complaints)) == (USAGE, "", 1), run
    assert run.err.startswith("fgseg: error: ")
    for text in texts:
        assert text in run.err


def run_json(folder="fgseg-out/rgb"):
    return json.loads(Path(folder, "run.json").read_text(encoding="utf-8"))
