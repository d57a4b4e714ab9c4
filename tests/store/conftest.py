"""Where the stores of these tests are: in a folder, and in fsspec's memory in place of an object store."""

import pytest


@pytest.fixture(params=["folder", "memory"])
def place(request, tmp_path):
    """The path or address of a new store."""
    return str(tmp_path / "store") if request.param == "folder" else f"memory://{tmp_path.name}/store"
