"""Lint, format and types are tests like any other."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    "command",
    [
        ["ruff", "check", "fgseg", "recipes", "tests", "benchmarks", "notebooks", "docs"],
        ["ruff", "format", "--check", "fgseg", "recipes", "tests", "benchmarks", "notebooks", "docs"],
        ["mypy"],
    ],
    ids=["lint", "format", "types"],
)
def test_the_code_passes(command):
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
