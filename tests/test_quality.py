"""Lint, format and types are tests like any other."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
older_types = np.lib.NumpyVersion(np.__version__) < "2.4.0"  # of numpy's functions, less exact


@pytest.mark.parametrize(
    "command",
    [
        ["ruff", "check", "fgseg", "recipes", "tests", "benchmarks", "notebooks", "docs"],
        ["ruff", "format", "--check", "fgseg", "recipes", "tests", "benchmarks", "notebooks", "docs"],
        pytest.param(["mypy"], marks=pytest.mark.skipif(older_types, reason="types are checked with numpy 2.4")),
    ],
    ids=["lint", "format", "types"],
)
def test_the_code_passes(command):
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
