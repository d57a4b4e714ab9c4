"""Files of a training run on a disk that has no room for them."""

import resource

import pytest
import torch

from fgseg.errors import OutputError
from fgseg.training.checkpoints import METRICS, append_metrics, kept_metrics, write_tensors


@pytest.fixture
def small_files():
    """The system refuses to write more than 200 bytes into a file."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_tensors_that_do_not_fit_leave_the_old_file_and_nothing_else(tmp_path, small_files):
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"old")
    with pytest.raises(OutputError, match=r"model\.safetensors: cannot be written, File too large; choose"):
        write_tensors(path, {"a": torch.zeros(500)}, {})
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]
    assert path.read_bytes() == b"old"


def test_a_row_of_metrics_that_does_not_fit_leaves_the_rows_before_it(tmp_path, small_files):
    append_metrics(tmp_path, {"step": 1, "loss": 0.5})
    with pytest.raises(OutputError, match=r"metrics\.jsonl: cannot be written, File too large"):
        append_metrics(tmp_path, {"step": 2, "note": "x" * 300})
    assert kept_metrics(tmp_path, 2) == [{"step": 1, "loss": 0.5}]
    assert (tmp_path / METRICS).read_bytes().endswith(b"}\n")
