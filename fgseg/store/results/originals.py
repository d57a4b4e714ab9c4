"""The images that rows were made of, which a store does not hold: they are read again where they are."""

from __future__ import annotations

import hashlib
import io
import shutil
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fgseg._files.names import one_line, reason
from fgseg._files.opening import open_image_file
from fgseg._files.output_errors import writing
from fgseg._files.writers import write_bytes
from fgseg.errors import ImageError
from fgseg.images.reading import read_image
from fgseg.images.writing import encode_png
from fgseg.store.contents import Frames, remote_content
from fgseg.store.identity import RunIdentity
from fgseg.store.schema import Row
from fgseg.store.sources import local_path, video_frame

__all__ = ["Originals"]

_NAME_ROOT = "name the folder of the images by root (--root)"


class Originals:
    """Reads images as a run read them, and refuses those that have changed."""

    def __init__(self, identity: RunIdentity, root: Path | None, frames: Frames) -> None:
        """Take the settings of the run, and the folder that ids are relative to if the images were moved."""
        self._reading: dict[str, Any] = {name: identity.settings.get(name) for name in ("bands", "stretch")}
        self._root, self._frames = root, frames

    def read(self, row: Row) -> NDArray[np.uint8]:
        """The image of a row, (H, W, 3) uint8 RGB.

        Raises:
            ImageError: it cannot be read, or is not the one that was segmented.
        """
        frame = video_frame(row.uri)
        return read_image(self._content(row) if frame is None else self._frame(row, *frame), **self._reading)

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
        frame, local = video_frame(row.uri), self._local(row)
        if frame is not None:
            name = f"{stem}.png"
            write_bytes(folder / name, encode_png(self._frame(row, *frame)))
            return name
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
            content = _at_address(row.uri)
        else:
            with _opened(local) as file:
                content = file.read()
        _check_same(row, content)
        return content

    def _frame(self, row: Row, uri: str, number: int) -> NDArray[np.uint8]:
        path = self._root / row.image_id.rpartition("#")[0] if self._root is not None else Path(local_path(uri) or uri)
        _opened(path).close()
        pixels = self._frames.frame(path, number)
        _check_same(row, pixels.tobytes())
        return pixels

    def _local(self, row: Row) -> Path | None:
        """The path of an image on this machine; None for an address elsewhere."""
        if self._root is not None:
            return self._root / row.image_id
        path = local_path(row.uri)
        return None if path is None else Path(path)


def _check_same(row: Row, content: bytes) -> None:
    if row.sha256 and hashlib.sha256(content).hexdigest() != row.sha256:
        raise ImageError(f"{one_line(row.uri)}: the file has changed since it was segmented; run `fgseg batch` again")


def _opened(path: Path) -> io.BufferedReader:
    try:
        return open_image_file(path, _NAME_ROOT)
    except ImageError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise ImageError(f"{one_line(path)}: there is no such file; {_NAME_ROOT}") from error
        raise


def _at_address(uri: str) -> bytes:
    try:
        return remote_content(uri)
    except ImageError:
        raise
    except Exception as error:  # clients of object stores raise what they like
        raise ImageError(f"{uri}: cannot be read ({reason(error)}); check the address and access to it") from error
