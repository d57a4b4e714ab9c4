"""A cache of text features in one SQLite file, so that a text is encoded once.

The cache never makes a run fail: a file that cannot be read or written is skipped with one warning of the logger
"fgseg", and a damaged file is deleted, so that the next write makes a new one. Each value has a checksum over its key
and itself, so damage never changes a result. `cache_folder` names the folder, LIMIT_BYTES bounds the size.
"""

import hashlib
import json
import logging
import os
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import platformdirs

__all__ = ["CACHE_FILE", "CacheReport", "TextCache", "cache_folder", "cache_key", "cache_report"]

CACHE_FILE = "texts.sqlite"
VERSION = 4
"""Part of every key. It is raised when a text becomes a feature in another way; older values then age out."""
LIMIT_BYTES = 2**30
"""About 400,000 texts of width 512. A file that is larger loses its oldest quarter."""

_TABLE = "CREATE TABLE IF NOT EXISTS entries (key BLOB PRIMARY KEY, value BLOB, crc INTEGER)"
_USED_BYTES = (
    "SELECT (page_count - freelist_count) * page_size FROM pragma_page_count, pragma_freelist_count, pragma_page_size"
)
_DELETE_OLDEST = "DELETE FROM entries WHERE rowid < (SELECT (3 * MIN(rowid) + MAX(rowid)) / 4 FROM entries)"
_PAGE = 16384  # bytes; on SQLite's pages of 4096 bytes a feature of width 512 takes a page and leaves half of it empty
_TIMEOUT = 5.0  # seconds to wait for another process; a transaction takes well under one
# The statements here are right, so SQLITE_ERROR means that a table or column is missing.
_DAMAGE = {sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT}

log = logging.getLogger("fgseg")


@dataclass(frozen=True)
class CacheReport:
    """The place and size of the cache.

    Attributes:
        path: the file, which need not exist yet; None where the cache is off.
        size_bytes: its size on disk.
    """

    path: Path | None
    size_bytes: int


def cache_folder() -> Path | None:
    """The folder of the cache, None where it is off.

    FGSEG_CACHE names it, and `FGSEG_CACHE=off` turns the cache off. Without FGSEG_CACHE, it is `fgseg` in the user's
    cache folder: on Linux in XDG_CACHE_HOME or `~/.cache`.

    Examples:
        >>> folder = cache_folder()
        >>> folder is None or folder.is_absolute()
        True
    """
    named = os.environ.get("FGSEG_CACHE", "")
    if named.lower() == "off":
        return None
    folder = Path(named) if named else platformdirs.user_cache_path("fgseg", appauthor=False)
    try:
        return folder.expanduser().absolute()
    except RuntimeError:
        log.warning("text cache: no home folder, so no text is kept; set FGSEG_CACHE to a folder, or to off")
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


def cache_key(*parts: object) -> bytes:
    """The key of a value: SHA-256 over all that the value depends on, given as JSON values.

    Examples:
        >>> len(cache_key("weights", "cpu", "float32", "region", ["a cup"]))
        32
    """
    return hashlib.sha256(json.dumps([VERSION, *parts]).encode()).digest()


class TextCache:
    """Values by key in one SQLite file.

    No file stays open between calls, so the object survives forks and threads. Processes may share the file, since each
    `write` is one transaction. The journal is SQLite's plain one, since write-ahead logs fail on network file systems.
    """

    def __init__(self, path: str | Path) -> None:
        """Take the file; it is made by the first `write`."""
        self.path = Path(path)
        self._refused: set[str] = set()

    def read(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        """The values that are known, byte for byte as they were written.

        Examples:
            >>> import tempfile
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     cache = TextCache(Path(folder, "texts.sqlite"))
            ...     cache.write({b"cup": b"0.6 0.8"})
            ...     cache.read([b"cup", b"mug"])
            {b'cup': b'0.6 0.8'}
        """
        with self._forgiving("read"):
            if "read" not in self._refused and self.path.exists():
                with self._connected() as connection:
                    return {key: value for key in keys if (value := _value(connection, key)) is not None}
        return {}

    def write(self, values: Mapping[bytes, bytes]) -> None:
        """Keep values by key, in one transaction; a value that a key had before is replaced."""
        if "written" in self._refused:
            return
        with self._forgiving("written"):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._connected() as connection, connection:
                if connection.execute(_USED_BYTES).fetchone()[0] > LIMIT_BYTES:
                    connection.execute(_DELETE_OLDEST)
                rows = [(key, value, zlib.crc32(key + value)) for key, value in values.items()]
                connection.executemany("INSERT OR REPLACE INTO entries (key, value, crc) VALUES (?, ?, ?)", rows)

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self.path, timeout=_TIMEOUT, isolation_level="IMMEDIATE")) as connection:
            connection.text_factory = bytes  # a damaged entry must not fail as UTF-8
            # Waiting for the disk takes as long as encoding a text. A file that a power cut damages is made anew.
            connection.execute("PRAGMA synchronous = OFF")
            connection.execute(f"PRAGMA page_size = {_PAGE}")
            connection.execute(_TABLE)
            yield connection

    @contextmanager
    def _forgiving(self, done: str) -> Iterator[None]:
        """Turn an error into a warning; the file is then not "read" or "written" again, and is deleted if damaged."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGE:
                with suppress(OSError):
                    self.path.unlink(missing_ok=True)
                    Path(f"{self.path}-journal").unlink(missing_ok=True)
            if not self._refused:
                hint = "texts are encoded again; set FGSEG_CACHE to another folder, or to off"
                log.warning("text cache %s: cannot be %s (%s); %s", self.path, done, error, hint)
            self._refused.add(done)


def _value(connection: sqlite3.Connection, key: bytes) -> bytes | None:
    """The value of a key, None where there is none or its checksum is another."""
    value, crc = connection.execute("SELECT value, crc FROM entries WHERE key = ?", [key]).fetchone() or (None, None)
    return value if isinstance(value, bytes) and crc == zlib.crc32(key + value) else None
