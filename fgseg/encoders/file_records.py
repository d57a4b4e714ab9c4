"""What the files of a model hold: their SHA-256, compared with their name or with an earlier record.

The hub's cache names a large file after its SHA-256. A file that has another name is compared with what it held when it
was first loaded. Each file is read once: a record in the user's cache folder keeps its digest together with its size,
times and inode, and only a file in which one of these has changed is read again.
"""

import hashlib
import json
import logging
import os
import re
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path

from fgseg._files.writers import write_text
from fgseg.encoders.text_cache import cache_folder
from fgseg.errors import OutputError

__all__ = ["damage", "file_digest", "is_json", "unlike"]

PIECES = 64
"""A record has a checksum of each of this many equal pieces of a file, which tells damage from other weights."""
DAMAGED_PIECES = 4
"""A file of which at most this many pieces have changed is damaged. Training changes nearly all of them."""

_CHUNK = 2**20
_SHA256 = re.compile(r"[0-9a-f]{64}")

log = logging.getLogger("fgseg")


@dataclass(frozen=True)
class _Record:
    """A file that was read.

    Attributes:
        path: the file, links resolved.
        state: size in bytes, times of the last modification and of the last change of any kind in ns, and inode.
        sha256: of the content, in hex.
        pieces: CRC-32 of each of `PIECES` equal pieces.
    """

    path: str
    state: tuple[int, ...]
    sha256: str
    pieces: tuple[int, ...]


def damage(path: Path, *, again: bool = False) -> str | None:
    """What is wrong with the content of a file; None where nothing is.

    Args:
        path: the file, or a link to it, such as a snapshot of the hub's cache has.
        again: read the file even if it has not changed since it was read.

    Raises:
        OSError: the file cannot be read.
    """
    link, path = path, path.resolve()
    place, known = _place(path), _known(path)
    if known is not None and known.state == _state(path) and not again:
        return None
    if link.suffix == ".json" and not is_json(link):
        return f"{link}: it is not JSON"
    record = _read(path)
    if wrong := _difference(path, record, known, place):
        return wrong
    if place is not None and record != known:
        _keep(record, place)
    return None


def file_digest(path: Path) -> str:
    """SHA-256 of a file in hex, from its record where the file has not changed since."""
    path = path.resolve()
    known = _known(path)
    return known.sha256 if known is not None and known.state == _state(path) else _read(path).sha256


def unlike(path: Path, found: str, expected: str) -> str | None:
    """What is wrong with a file of one SHA-256 that should have another; None if they are equal."""
    return None if found == expected else f"{path}: its SHA-256 is {found[:12]}..., and it should be {expected[:12]}..."


def is_json(path: Path) -> bool:
    """Whether a file is there and holds a JSON object."""
    try:
        return isinstance(json.loads(path.read_bytes()), dict)
    except (OSError, ValueError):
        return False


def _difference(path: Path, found: _Record, known: _Record | None, place: Path | None) -> str | None:
    if _SHA256.fullmatch(path.name):
        return unlike(path, found.sha256, path.name)
    if known is None or found.sha256 == known.sha256 or found.state[0] != known.state[0]:
        return None
    changed = sum(now != then for now, then in zip(found.pieces, known.pieces, strict=True))
    if changed > DAMAGED_PIECES:
        log.info("%s: other weights than at the last start", path)
        return None
    return (
        f"{path}: {changed} of {PIECES} pieces have changed since it was first loaded; copy the file anew, "
        f"or remove {place} if you changed it yourself"
    )


def _read(path: Path) -> _Record:
    state = _state(path)
    piece = max(1, -(-state[0] // PIECES))
    total, pieces = hashlib.sha256(), []
    with path.open("rb") as stream:
        for _ in range(PIECES):
            left, checksum = piece, 0
            while left and (block := stream.read(min(_CHUNK, left))):
                total.update(block)
                checksum = zlib.crc32(block, checksum)
                left -= len(block)
            pieces.append(checksum)
    return _Record(str(path), state, total.hexdigest(), tuple(pieces))


def _state(path: Path) -> tuple[int, ...]:
    stat = path.stat()
    # The time of the last change of any kind counts too, since copying tools set that of modification back.
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino


def _place(path: Path) -> Path | None:
    """The file of a record; None where the cache is off."""
    folder = cache_folder()
    name = hashlib.sha256(os.fsencode(path)).hexdigest()[:32]
    return folder / "weights" / f"{name}.json" if folder else None


def _known(path: Path) -> _Record | None:
    """The record of a file; None where there is none, or one that cannot be read."""
    place = _place(path)
    if place is None:
        return None
    try:
        entry = json.loads(place.read_text(encoding="utf-8"))
        record = _Record(entry["path"], tuple(entry["state"]), entry["sha256"], tuple(entry["pieces"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return record if len(record.pieces) == PIECES else None


def _keep(record: _Record, place: Path) -> None:
    try:
        write_text(place, json.dumps(asdict(record)) + "\n")
    except OutputError as error:
        log.warning("%s; the weights are read at every start. FGSEG_CACHE names another folder", error)
