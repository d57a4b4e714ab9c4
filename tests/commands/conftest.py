"""Runs commands with the tiny model."""

import re

import odd_images
import pytest
from command_runs import Run

from fgseg.commands import main as cli

CLOSING = re.compile(r"fgseg: \d+ images? in [\d.]+ s.*\n")


@pytest.fixture
def fgseg(capsys, monkeypatch, tmp_path, tiny_model):
    """Runs a command in an empty folder with the tiny model; with `model=None` there is no --model."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FGSEG_MODEL", raising=False)

    def run(command, *words, model=tiny_model):
        extra = [] if model is None or command in ("models", "doctor") else ["--model", model]
        if extra and "--dtype" not in words:
            extra += ["--dtype", "float32"]
        with pytest.raises(SystemExit) as exited:
            cli.main([command, *map(str, words), *extra])
        captured = capsys.readouterr()
        closing = CLOSING.search(captured.err)
        return Run(exited.value.code, captured.out, CLOSING.sub("", captured.err), closing[0] if closing else "")

    return run


@pytest.fixture
def photo(tmp_path):
    return odd_images.rgb_png(tmp_path)
