"""The files of a store, in a folder or in an object store that fsspec opens.

Names are relative to the store, with slashes. A file appears complete or not at all: in a folder it is written beside
its place, synced and renamed, in an object store it is one put. Nothing is streamed into its place, because a writer
that fails in the middle would leave a file that looks whole.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Protocol

from fgseg._files.names import one_line, reason
from fgseg._files.temporary import remove_abandoned
from fgseg._files.writers import create_bytes, write_bytes
from fgseg.errors import FgsegError, StoreError

__all__ = ["USE_THREADS", "Files", "json_bytes", "open_files", "read_json"]

USE_THREADS = False
"""Of Arrow, for files that Python opened. Its threads let go of such a file whenever they like, and one that does so
while Python ends aborts the process."""


class Files(Protocol):
    """Files below the root of a store.

    Whatever goes wrong is a StoreError or an OutputError, except that a missing file is a FileNotFoundError, because
    callers know what that means.
    """

    def location(self, name: str) -> str:
        """The path or address of a file, for messages."""

    def names(self, folder: str) -> list[str]:
        """Names of the files in a folder; none if there is no folder."""
        return list(self.sizes(folder))

    def sizes(self, folder: str) -> dict[str, int]:
        """Name in the folder -> bytes."""

    def folders(self, folder: str) -> list[str]:
        """Names of the folders in a folder."""

    def exists(self, name: str) -> bool:
        """Whether there is a file."""
        return bool(self.stamp(name))

    def stamp(self, name: str) -> str:
        """What changes when a file is replaced; "" if there is no file."""

    def read(self, name: str) -> bytes:
        """The content of a file."""

    def tail(self, name: str, size: int) -> bytes:
        """The last bytes of a file; all of a shorter one."""

    def open(self, name: str) -> IO[bytes]:
        """A file opened to read parts of it."""

    def write(self, name: str, data: bytes) -> None:
        """Write a file in place of the one of that name."""

    def create(self, name: str, data: bytes) -> bool:
        """Write a file unless there is one of that name; returns whether it was written."""

    def move(self, name: str, to: str) -> None:
        """Give a file another name; nothing happens if it is gone."""

    def remove(self, name: str) -> None:
        """Remove a file; nothing happens if it is gone."""

    def sweep(self, folder: str) -> None:
        """Remove what writers that have died left in a folder."""


def open_files(path: str | os.PathLike[str]) -> Files:
    """The files of a store.

    Args:
        path: a folder, or an address with "://".

    Raises:
        StoreError: no name, or an address that fsspec does not open.
    """
    text = os.fspath(path)
    if not text:  # an unset variable of a shell
        raise StoreError("path: expected the folder or address of a store, got no name")
    if "://" not in text:
        return _Folder(Path(text))
    import fsspec  # takes a tenth of a second, and folders do without

    with _explained(text):
        system, root = fsspec.url_to_fs(text)
    if "file" in system.protocol:  # file://, which fsspec would write in place
        return _Folder(Path(root))
    return _Objects(system, root, text.rstrip("/"))


def json_bytes(value: Any) -> bytes:
    """A JSON file, as it is written to a store."""
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def read_json(files: Files, name: str) -> dict[str, Any]:
    """A JSON file of the store that holds an object.

    Raises:
        StoreError: it holds something else.
    """
    with suppress(ValueError):
        value = json.loads(files.read(name))
        if isinstance(value, dict):
            return value
    raise StoreError(f"{files.location(name)}: expected a JSON object, got a damaged file; restore it from a copy")


class _Folder(Files):
    """The files of a folder."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def location(self, name: str) -> str:
        return one_line(self._root / name)

    def sizes(self, folder: str) -> dict[str, int]:
        sizes = {}
        for entry in self._entries(folder):
            with suppress(FileNotFoundError), _explained(self.location(entry.name)):  # it was moved meanwhile
                if entry.is_file():
                    sizes[entry.name] = entry.stat().st_size
        return sizes

    def folders(self, folder: str) -> list[str]:
        return [entry.name for entry in self._entries(folder) if entry.is_dir() and not entry.name.startswith(".")]

    def stamp(self, name: str) -> str:
        with suppress(FileNotFoundError), _explained(self.location(name)):
            status = (self._root / name).stat()
            return f"{status.st_ino} {status.st_mtime_ns} {status.st_size}"
        return ""

    def read(self, name: str) -> bytes:
        with _explained(self.location(name)):
            return (self._root / name).read_bytes()

    def tail(self, name: str, size: int) -> bytes:
        with self.open(name) as file, _explained(self.location(name)):
            file.seek(max(0, file.seek(0, os.SEEK_END) - size))
            return file.read()

    def open(self, name: str) -> IO[bytes]:
        with _explained(self.location(name)):
            return (self._root / name).open("rb")

    def write(self, name: str, data: bytes) -> None:
        write_bytes(self._root / name, data, sync=True)

    def create(self, name: str, data: bytes) -> bool:
        return create_bytes(self._root / name, data, sync=True)

    def move(self, name: str, to: str) -> None:
        with _explained(self.location(name), "make the store writable"), suppress(FileNotFoundError):
            (self._root / to).parent.mkdir(parents=True, exist_ok=True)
            (self._root / name).replace(self._root / to)

    def remove(self, name: str) -> None:
        with _explained(self.location(name), "make the store writable"):
            (self._root / name).unlink(missing_ok=True)

    def sweep(self, folder: str) -> None:
        remove_abandoned(self._root / folder)

    def _entries(self, folder: str) -> Iterator[os.DirEntry[str]]:
        with _explained(self.location(folder)):
            try:
                entries = os.scandir(self._root / folder)
            except FileNotFoundError:
                return
            with entries:
                yield from entries


class _Objects(Files):
    """The files of an object store, through fsspec."""

    def __init__(self, system: Any, root: str, address: str) -> None:
        self._system, self._root, self._address = system, root.rstrip("/"), address

    def location(self, name: str) -> str:
        return f"{self._address}/{name}" if name else self._address

    def sizes(self, folder: str) -> dict[str, int]:
        return {_last(entry): entry["size"] for entry in self._entries(folder) if entry["type"] == "file"}

    def folders(self, folder: str) -> list[str]:
        return [_last(entry) for entry in self._entries(folder) if entry["type"] == "directory"]

    def stamp(self, name: str) -> str:
        with suppress(FileNotFoundError), self._call(name) as path:
            self._system.invalidate_cache(self._system._parent(path))
            return str(sorted((key, str(value)) for key, value in self._system.info(path).items()))
        return ""

    def read(self, name: str) -> bytes:
        with self._call(name) as path:
            return bytes(self._system.cat_file(path))

    def tail(self, name: str, size: int) -> bytes:
        with self._call(name) as path:
            return bytes(self._system.cat_file(path, start=-size))

    def open(self, name: str) -> IO[bytes]:
        with self._call(name) as path:
            return self._system.open(path, "rb")

    def write(self, name: str, data: bytes) -> None:
        self._put(name, data, mode="overwrite")

    def create(self, name: str, data: bytes) -> bool:
        return self._put(name, data, mode="create")

    def move(self, name: str, to: str) -> None:
        self._gone(lambda path: self._system.mv(path, f"{self._root}/{to}"), name)

    def remove(self, name: str) -> None:
        self._gone(self._system.rm_file, name)

    def sweep(self, folder: str) -> None:
        """A put leaves nothing behind."""

    def _put(self, name: str, data: bytes, *, mode: str) -> bool:
        try:
            with self._call(name) as path, suppress(FileExistsError):
                self._system.pipe_file(path, data, mode=mode)
                return True
        except FileNotFoundError as error:
            raise StoreError(f"{self.location(name)}: cannot be written ({reason(error)}); make the bucket") from error
        return False

    def _gone(self, act: Any, name: str) -> None:
        with suppress(FileNotFoundError), self._call(name) as path:
            act(path)

    def _entries(self, folder: str) -> list[dict[str, Any]]:
        with suppress(FileNotFoundError), self._call(folder) as path:
            self._system.invalidate_cache(path)
            return [entry for entry in self._system.ls(path, detail=True) if _last(entry)]
        return []

    @contextmanager
    def _call(self, name: str) -> Iterator[str]:
        with _explained(self.location(name), "check the address, the credentials and the network"):
            yield f"{self._root}/{name}"


def _last(entry: dict[str, Any]) -> str:
    return str(entry["name"]).rstrip("/").rpartition("/")[2]


@contextmanager
def _explained(location: str, advice: str = "check the path and its permissions") -> Iterator[None]:
    """Turn what goes wrong with a file into a StoreError; only that it is missing stays a FileNotFoundError."""
    try:
        yield
    except (FileNotFoundError, FgsegError):
        raise
    except Exception as error:  # clients of object stores raise what they like
        raise StoreError(f"{one_line(location)}: cannot be reached ({reason(error)}); {advice}") from error
