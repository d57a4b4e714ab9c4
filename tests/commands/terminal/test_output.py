"""Warnings on stderr: their form, from the first moment on, and between the steps of a progress bar."""

import logging
import sys

from command_runs import DONE, USAGE

from fgseg.commands.terminal.output import log_to_stderr, progress_bar

log = logging.getLogger("fgseg")


def test_a_warning_is_one_line_in_our_form_and_is_printed_once(capsys):
    log_to_stderr(logging.WARNING)
    for _ in range(2):
        log.warning("%s: two\nlines", "a.png")
    log.info("hidden")
    assert capsys.readouterr().err == "fgseg: a.png: two lines\n"


def test_lines_that_are_no_warnings_are_printed_each_time(capsys):
    log_to_stderr(logging.INFO)
    for _ in range(2):
        log.info("step")
    assert capsys.readouterr().err == "fgseg: step\n" * 2


def test_the_traceback_of_a_logged_error_follows_its_line(capsys):
    log_to_stderr(logging.WARNING)
    log.error("failed", exc_info=ValueError("why"))
    assert capsys.readouterr().err == "fgseg: failed\nValueError: why\n"


def test_a_warning_takes_the_progress_bar_away_first(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    log_to_stderr(logging.WARNING)
    with progress_bar(quiet=False, desc="work", total=3) as bar:
        bar.update()
        log.warning("careful")
    before, after = capsys.readouterr().err.split("fgseg: careful\n")
    assert before.endswith("\r")  # the line of the bar is empty
    assert "work" in before
    assert "work" in after


def test_a_warning_before_the_model_is_loaded_is_in_our_form(fgseg, photo, tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    run = fgseg("segment", ".", "-p", "red", "--resolution", "squash:32")
    assert (run.code, run.complaints) == (DONE, ["fgseg: .: 1 picture; left out: 1 other file (1 .txt)"])
    run = fgseg("rank", ".", "-p", "red", model="nosuch")
    assert run.code == USAGE
    assert [line.split(":")[0] for line in run.complaints] == ["fgseg", "fgseg"]
