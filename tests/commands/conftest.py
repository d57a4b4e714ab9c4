"""Runs commands with the tiny model."""

import odd_images
import pytest
from command_runs import run_of

from fgseg.commands import main as cli


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
        return run_of(exited.value.code, capsys.readouterr())

    return run


@pytest.fixture
def photo(tmp_path):
    return odd_images.rgb_png(tmp_path)
