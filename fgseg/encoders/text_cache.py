"""Text features on disk: a text is encoded once, ever.

A SQLite file holds what text towers made, found by all that made it: weights, tokenizer, device, number format, route
and text. The file is a convenience and never a reason to fail: what is damaged is made anew, what cannot be read or
written is skipped with one warning of the logger "fgseg", and every entry carries a checksum over its key and value,
so that nothing but what was once encoded comes back. See `cache_folder` for its place and LIMIT_BYTES for its size.
"""

import hashlib
import json
import logging
import os
import sqlite3
import time
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["CACHE_FILE", "CacheReport", "FeatureSpace", "TextCache", "cache_folder", "cache_report"]

CACHE_FILE = "texts.sqlite"
VERSION = 3
"""Raised when the table changes, or how a text becomes a feature; a file of another version is made anew."""
LIMIT_BYTES = 2**30
"""About 400,000 texts of width 512. A file that grew beyond it loses its oldest quarter, and then stays as large."""

_PAGE = 16384  # bytes; with SQLite's 4096 a feature of width 512 takes a page, half of it empty
_PATIENCE = 5.0  # seconds to wait for another process; a transaction takes well under one
_KEYS_A_QUERY = 900  # older builds of SQLite take 999 variables
_SETTLED_NS = 2 * 10**9  # some file systems count time in two seconds: a younger file may change and look the same
# ERROR: a table or column is missing, since the statements here are right.
_DAMAGE = {sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT}

log = logging.getLogger("fgseg")
T = TypeVar("T")


@dataclass(frozen=True)
class CacheReport:
    """Where the cache is and what it takes.

    Attributes:
        path: the file, which need not exist yet; None where the cache is off.
        size_bytes: its size on disk.
    """

    path: Path | None
    size_bytes: int


@dataclass(frozen=True)
class FeatureSpace:
    """What a text's feature depends on besides the text.

    Attributes:
        weights: identity of the model, its text weights and tokenizer.
        device: kind of device, as "cpu" or "cuda": two kinds round differently.
        dtype: what the encoder computes in.
        route: which of the model's text routes.
        width: D, floats of a feature.
    """

    weights: str
    device: str
    dtype: str
    route: str
    width: int

    def keys(self, texts: Iterable[str]) -> dict[bytes, str]:
        """The texts by the keys they are stored under."""
        space = hashlib.sha256(json.dumps(astuple(self)).encode())
        keys = {}
        for text in texts:
            digest = space.copy()
            digest.update(text.encode("utf-8", errors="surrogatepass"))
            keys[digest.digest()] = text
        return keys


def cache_folder() -> Path | None:
    """The folder of the cache, None where it is off.

    FGSEG_CACHE names it, and `FGSEG_CACHE=off` turns the cache off. Without, it is `fgseg` in XDG_CACHE_HOME, on
    Windows in LOCALAPPDATA, else in `~/.cache`.

    Examples:
        >>> folder = cache_folder()
        >>> folder is None or folder.is_absolute()
        True
    """
    asked = os.environ.get("FGSEG_CACHE", "")
    if asked.lower() == "off":
        return None
    try:
        if asked:
            return Path(asked).expanduser().absolute()
        base = Path(os.environ.get("LOCALAPPDATA" if os.name == "nt" else "XDG_CACHE_HOME", ""))
        # a relative path there is to be ignored, says the XDG specification
        return (base if base.is_absolute() else Path.home() / ".cache") / "fgseg"
    except RuntimeError:  # nobody's home
        log.warning("text cache: no home folder; texts are encoded anew. FGSEG_CACHE names a folder, or is off")
        return None


def cache_report() -> CacheReport:
    """Where the cache is and how many bytes it takes.

    Examples:
        >>> cache_report().size_bytes >= 0
        True
    """
    folder = cache_folder()
    if folder is None:
        return CacheReport(None, 0)
    path = folder / CACHE_FILE
    try:
        return CacheReport(path, path.stat().st_size)
    except OSError:
        return CacheReport(path, 0)


class TextCache:
    """Text features and digests of files in one SQLite file.

    Holds no open file, so that it survives forks and threads. Processes may share the file: each batch is one
    transaction. The journal is a plain one, since write-ahead logs fail on network homes.
    """

    def __init__(self, path: str | Path) -> None:
        """Take the file; nothing is opened or made before it is needed."""
        self.path = Path(path)
        self._is_readable = self._is_writable = True
        self._has_complained = False

    def features(self, space: FeatureSpace, texts: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """(D,) float32 features of those texts that are known, bit for bit as they were added.

        Examples:
            >>> import tempfile
            >>> space = FeatureSpace("sha256 of the weights", "cpu", "float32", "region", 2)
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     cache = TextCache(Path(folder, "texts.sqlite"))
            ...     cache.add(space, {"cup": np.array([0.6, 0.8], np.float32)})
            ...     cache.features(space, ["cup", "mug"])
            {'cup': array([0.6, 0.8], dtype=float32)}
        """
        keys = space.keys(texts)
        found = self._read(list(keys), space.width * 4)
        return {keys[key]: np.frombuffer(value, "<f4").astype(np.float32, copy=False) for key, value in found.items()}

    def add(self, space: FeatureSpace, features: Mapping[str, NDArray[np.float32]]) -> None:
        """Keep features by text, in one transaction; what was kept for a text before is replaced.

        Examples: see `features`.
        """
        keys = space.keys(features)
        self._write({key: features[text].astype("<f4").tobytes() for key, text in keys.items()})

    def digest(self, files: Sequence[Path], compute: Callable[[], str]) -> str:
        """A SHA-256 in hex that depends on files alone, computed when their place, sizes or times have changed.

        Args:
            files: what `compute` reads.
            compute: gives the digest; about a second a gigabyte.

        Examples:
            >>> import tempfile
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     TextCache(Path(folder, "texts.sqlite")).digest([], lambda: "00" * 32)[:4]
            '0000'
        """
        state, newest = _state(files)
        key = hashlib.sha256(f"files {state}".encode("utf-8", errors="surrogatepass")).digest()
        if known := self._read([key], hashlib.sha256().digest_size):
            return known[key].hex()
        digest = compute()
        if newest + _SETTLED_NS < time.time_ns() and _state(files)[0] == state:
            self._write({key: bytes.fromhex(digest)})
        return digest

    def _read(self, keys: Sequence[bytes], size: int) -> dict[bytes, bytes]:
        """The values of `size` bytes that are there and sound."""
        if not self._is_readable or not keys:
            return {}

        def work(connection: sqlite3.Connection) -> dict[bytes, bytes]:
            found = {}
            for start in range(0, len(keys), _KEYS_A_QUERY):
                some = keys[start : start + _KEYS_A_QUERY]
                marks = ",".join("?" * len(some))
                rows = connection.execute(f"SELECT key, value, crc FROM entries WHERE key IN ({marks})", some)
                found.update({key: value for key, value, crc in rows if _is_sound(key, value, crc, size)})
            return found

        try:
            return self._rebuilding(work) if self.path.exists() else {}
        except (sqlite3.Error, OSError) as error:
            self._is_readable = False
            self._complain(f"cannot be read ({error}); texts are encoded anew")
            return {}

    def _write(self, entries: Mapping[bytes, bytes]) -> None:
        if not self._is_writable or not entries:
            return
        rows = [(key, value, _crc(key, value)) for key, value in entries.items()]

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("BEGIN IMMEDIATE")
            if _used_bytes(connection) > LIMIT_BYTES:
                connection.execute(
                    "DELETE FROM entries WHERE rowid <= (SELECT rowid FROM entries ORDER BY rowid LIMIT 1 "
                    "OFFSET (SELECT COUNT(*) / 4 FROM entries))"
                )
            connection.executemany("INSERT OR REPLACE INTO entries (key, value, crc) VALUES (?, ?, ?)", rows)
            connection.execute("COMMIT")

        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._rebuilding(work)
        except (sqlite3.Error, OSError) as error:
            self._is_writable = False  # once: a lock that nobody lets go of would cost _PATIENCE a batch
            self._complain(f"cannot be written ({error}); new texts are not kept")

    def _complain(self, what: str) -> None:
        if not self._has_complained:
            log.warning("text cache %s: %s. FGSEG_CACHE names another folder, or is off", self.path, what)
        self._has_complained = True

    def _rebuilding(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do the work; on a damaged file, or one of another version, once more on a new one."""
        before = self._stamp()
        try:
            return self._connected(work)
        except sqlite3.DatabaseError as error:
            # the low byte; the rest says where the damage is
            if not isinstance(error, _OtherVersion) and getattr(error, "sqlite_errorcode", 0) & 0xFF not in _DAMAGE:
                raise
            log.warning("text cache %s: %s; made anew", self.path, error)
        if self._stamp() == before:  # else another process has made it anew
            for name in (self.path.name, f"{self.path.name}-journal"):  # a journal left behind would be played back
                self.path.with_name(name).unlink(missing_ok=True)
        return self._connected(work)

    def _stamp(self) -> tuple[int, int, int] | None:
        try:
            stat = self.path.stat()
        except FileNotFoundError:
            return None
        return stat.st_ino, stat.st_mtime_ns, stat.st_size

    def _connected(self, work: Callable[[sqlite3.Connection], T]) -> T:
        with closing(sqlite3.connect(self.path, timeout=_PATIENCE, isolation_level=None)) as connection:
            connection.text_factory = bytes  # nothing here is text; damage must not fail as UTF-8
            # Waiting for the disk takes as long as encoding a text; a file that a power cut damages is made anew.
            connection.execute("PRAGMA synchronous = OFF")
            if _version(connection) != VERSION:
                _create(connection)
            return work(connection)


class _OtherVersion(sqlite3.DatabaseError):
    """A file that another version of this module made."""


def _create(connection: sqlite3.Connection) -> None:
    """Make the table in an empty file, unless another process has just done it."""
    connection.execute(f"PRAGMA page_size = {_PAGE}")
    connection.execute("BEGIN IMMEDIATE")
    version = _version(connection)
    if version != VERSION:
        if version or connection.execute("SELECT 1 FROM sqlite_master").fetchone():
            raise _OtherVersion(f"of version {version}, and this is {VERSION}")
        connection.execute("CREATE TABLE entries (key BLOB PRIMARY KEY, value BLOB, crc INTEGER)")
        connection.execute(f"PRAGMA user_version = {VERSION}")
    connection.execute("COMMIT")


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _used_bytes(connection: sqlite3.Connection) -> int:
    pages, free = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count"))
    return int(pages - free) * _PAGE


def _crc(key: bytes, value: bytes) -> int:
    return zlib.crc32(value, zlib.crc32(key))


def _is_sound(key: object, value: object, crc: object, size: int) -> bool:
    return isinstance(key, bytes) and isinstance(value, bytes) and len(value) == size and crc == _crc(key, value)


def _state(files: Sequence[Path]) -> tuple[str, int]:
    """Places, sizes and times of files, and the newest time in nanoseconds.

    The time of change is told apart from that of modification, which copying tools set back.
    """
    stats = [(path.resolve(), path.stat()) for path in files]
    state = json.dumps([[str(path), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns] for path, stat in stats])
    return state, max((max(stat.st_mtime_ns, stat.st_ctime_ns) for _, stat in stats), default=0)
