"""The images that rows were made of, which a store does not hold: they are read again where they are."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote_to_bytes

import numpy as np
from numpy.typing import NDArray

from fgseg._files import one_line, open_image_file, reason, write_bytes, writing
from fgseg.errors import ImageError
from fgseg.images.reading import read_image
from fgseg.store.identity import RunIdentity
from fgseg.store.schema import Row

__all__ = ["Originals"]

_NAME_ROOT = "name the folder of the images by root (--root)"


class Originals:
    """Reads images as a run read them, and refuses those that have changed since."""

    def __init__(self, identity: RunIdentity, root: Path | None) -> None:
        """Take the settings of the run, and the folder that ids are relative to if the images were moved."""
        self._reading: dict[str, Any] = {name: identity.settings.get(name) for name in ("bands", "stretch")}
        self._root = root

    def read(self, row: Row) -> NDArray[np.uint8]:
        """The image of a row, (H, W, 3) uint8 RGB.

        Raises:
            ImageError: it cannot be read, or is not the one that was segmented.
        """
        return read_image(self._content(row), **self._reading)

    def place(self, row: Row, folder: Path, stem: str) -> str:
        """Put the file of an image into a folder: a link to a file of this machine, else a copy.

        Args:
            row: of the image.
            folder: the folder.
            stem: the name of the file without its suffix.

        Returns:
            The name with its suffix.

        Raises:
            ImageError: as `read`.
            OutputError: the file cannot be written.
        """
        local = self._local(row)
        name = stem + PurePosixPath(row.uri if local is None else local.name).suffix
        if local is None:
            write_bytes(folder / name, self._content(row))
            return name
        with _opened(local) as file:
            found = Path(file.name)  # its name may be in another Unicode form
        with writing(folder / name):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            try:
                (folder / name).symlink_to(found.absolute())
            except FileExistsError:
                raise
            except OSError:  # Windows and some disks have no links, and the content is the same
                shutil.copyfile(found, folder / name)
        return name

    def _content(self, row: Row) -> bytes:
        local = self._local(row)
        if local is None:
            content = _remote_content(row.uri)
        else:
            with _opened(local) as file:
                content = file.read()
        if row.sha256 and hashlib.sha256(content).hexdigest() != row.sha256:
            raise ImageError(
                f"{one_line(local or row.uri)}: the file has changed since it was segmented; run `fgseg batch` again"
            )
        return content

    def _local(self, row: Row) -> Path | None:
        """The path of an image on this machine; None for an address elsewhere."""
        if self._root is not None:
            return self._root / row.image_id
        if row.uri.startswith("file://"):  # a path whose bytes are not Unicode
            return Path(os.fsdecode(unquote_to_bytes(row.uri.removeprefix("file://"))))
        return None if "://" in row.uri else Path(row.uri)


def _opened(path: Path) -> io.BufferedReader:
    try:
        return open_image_file(path, _NAME_ROOT)
    except ImageError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise ImageError(f"{one_line(path)}: there is no such file; {_NAME_ROOT}") from error
        raise


def _remote_content(uri: str) -> bytes:
    import fsspec  # only where an image is elsewhere

    try:
        system, place = fsspec.url_to_fs(uri)
        return bytes(system.cat_file(place))
    except Exception as error:  # clients of object stores raise what they like
        raise ImageError(f"{uri}: cannot be read ({reason(error)}); check the address and access to it") from error
