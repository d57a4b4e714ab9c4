"""Opening a store by its path. This module loads without pyarrow, which only the extra `fgseg[store]` installs."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import TYPE_CHECKING

from fgseg.errors import OptionError

if TYPE_CHECKING:
    from fgseg.store.results.reading import StoreReader

__all__ = ["check_packages", "open_store"]


def check_packages() -> None:
    """Refuse to go on without the packages of the extra.

    Raises:
        OptionError: one of them is not installed.
    """
    for package in ("pyarrow", "fsspec"):
        if find_spec(package) is None:
            raise OptionError(f'store: expected the package {package}, got none; pip install "fgseg[store]"')


def open_store(path: str | os.PathLike[str], *, run: str | None = None) -> StoreReader:
    """Open a store to read its results.

    Args:
        path: the folder of the store, or an address that fsspec opens, such as "s3://bucket/store".
        run: key of the run; None takes the only one.

    Raises:
        OptionError: the extra `fgseg[store]` is not installed.
        StoreError: there is no store, it cannot be read, or it has no such run, or several and `run` is None.
    """
    check_packages()
    from fgseg.store.results.reading import StoreReader
    from fgseg.store.store import Store

    return StoreReader(Store.open(path, run=run))
