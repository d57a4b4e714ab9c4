import logging
import os
import sqlite3
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from fgseg.encoders import text_cache
from fgseg.encoders.text_cache import CACHE_FILE, CacheReport, TextCache, cache_folder, cache_key, cache_report

CUP, MUG = b"of the cup", b"of the mug"
BOTH = {b"cup": CUP, b"mug": MUG}


@pytest.fixture
def cache(tmp_path):
    return TextCache(tmp_path / "folder" / CACHE_FILE)


@pytest.fixture
def filled(cache):
    cache.write(BOTH)
    return cache


def changed(cache, statement, *values):
    """Run one statement on the file behind the cache's back."""
    connection = sqlite3.connect(cache.path)
    with connection:
        connection.execute(statement, values)
    connection.close()


def warnings_of(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


# --- what is kept


@settings(max_examples=12, deadline=None)
@given(st.dictionaries(st.binary(max_size=6), st.binary(max_size=9), max_size=4))
def test_values_come_back_byte_for_byte_under_any_key(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("cache") / CACHE_FILE
    TextCache(path).write(values)
    assert TextCache(path).read(values) == values


def test_a_key_that_was_not_written_is_missing_and_reading_makes_no_file(cache):
    assert cache.read([b"cup"]) == {}
    assert not cache.path.exists()
    cache.write({b"cup": CUP})
    assert cache.read([b"mug", b"cup"]) == {b"cup": CUP}


@given(st.lists(st.text(), max_size=3), st.lists(st.text(), max_size=3))
def test_keys_are_equal_for_equal_parts_only(some, others):
    assert (cache_key(*some) == cache_key(*others)) == (some == others)


def test_a_key_depends_on_the_version_and_on_how_texts_are_grouped(monkeypatch):
    keys = [cache_key("ab"), cache_key("a", "b"), cache_key(["a", "b"]), cache_key("\ud800")]
    monkeypatch.setattr(text_cache, "VERSION", text_cache.VERSION + 1)
    keys.append(cache_key("ab"))
    assert len(set(keys)) == 5


def test_a_file_over_the_limit_loses_its_oldest_entries_and_grows_no_more(cache, monkeypatch):
    monkeypatch.setattr(text_cache, "LIMIT_BYTES", 300_000)
    batches = [[b"text %d %d" % (batch, number) for number in range(20)] for batch in range(10)]
    for batch in batches:  # 80 kB each
        cache.write(dict.fromkeys(batch, bytes(4000)))
    counts = [len(cache.read(batch)) for batch in batches]
    assert cache.path.stat().st_size < 450_000
    assert counts == sorted(counts)
    assert counts[0] == 0
    assert counts[-2:] == [20, 20]


# --- a damaged file


def assert_made_anew(path):
    """A later run finds no damage after its first read, and keeps what it writes."""
    later = TextCache(path)
    later.read(BOTH)
    later.write({b"cup": CUP})
    assert TextCache(path).read([b"cup"]) == {b"cup": CUP}


@pytest.mark.parametrize("size", [0, 1, 50, 100, 5000, 16384, 16385, 20000, 32768, 49151])
def test_a_truncated_file_gives_nothing_wrong_and_is_made_anew(filled, size):
    assert filled.path.stat().st_size == 3 * 16384
    os.truncate(filled.path, size)
    assert filled.read(BOTH).items() <= BOTH.items()
    assert_made_anew(filled.path)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 3 * 16384 - 1), st.binary(min_size=1, max_size=40))
def test_bytes_overwritten_anywhere_give_nothing_wrong_and_no_error(tmp_path_factory, start, junk):
    cache = TextCache(tmp_path_factory.mktemp("cache") / CACHE_FILE)
    cache.write(BOTH)
    data = bytearray(cache.path.read_bytes())
    data[start : start + len(junk)] = junk
    cache.path.write_bytes(data)
    assert cache.read(BOTH).items() <= BOTH.items()
    cache.write({b"cup": CUP})


@pytest.mark.parametrize(
    "spoil",
    [
        lambda cache: cache.path.write_bytes(b"no database, " * 2000),
        lambda cache: changed(cache, "ALTER TABLE entries RENAME COLUMN crc TO sum"),
    ],
    ids=["no database", "other columns"],
)
def test_a_file_that_is_not_a_database_or_has_other_columns_is_made_anew_with_a_warning(filled, spoil, caplog):
    spoil(filled)
    assert filled.read([b"cup"]) == {}
    assert len(warnings_of(caplog)) == 1
    assert "cannot be read" in warnings_of(caplog)[0]
    filled.write({b"cup": CUP})
    assert TextCache(filled.path).read([b"cup"]) == {b"cup": CUP}
    assert len(warnings_of(caplog)) == 1


def test_a_file_without_its_table_gets_one(filled, caplog):
    changed(filled, "DROP TABLE entries")
    assert filled.read([b"cup"]) == {}
    assert_made_anew(filled.path)
    assert warnings_of(caplog) == []


def test_a_journal_of_a_damaged_file_is_not_played_back_into_the_new_one(filled):
    journal = filled.path.with_name(f"{CACHE_FILE}-journal")
    filled.path.write_bytes(b"no database, " * 2000)
    journal.write_bytes(b"old pages")
    filled.read([b"cup"])
    assert not journal.exists()
    assert_made_anew(filled.path)


@pytest.mark.parametrize(
    "spoil",
    [
        "UPDATE entries SET value = substr(value, 1, 8)",
        "UPDATE entries SET value = CAST(value || x'00000000' AS BLOB)",
        "UPDATE entries SET value = x'00000000000000000000'",
        "UPDATE entries SET value = 'ten bytes.'",
        "UPDATE entries SET value = CAST(x'ff80' AS TEXT)",
        "UPDATE entries SET value = NULL",
        "UPDATE entries SET crc = NULL",
        "UPDATE entries SET crc = crc + 1",
        # as a stray journal would leave it: the value and the sum of one key under another
        "REPLACE INTO entries SELECT there.key, here.value, here.crc FROM entries here JOIN entries there "
        "ON here.key != there.key",
    ],
    ids=["short", "long", "zeros", "text", "no utf-8", "null", "no sum", "other sum", "swapped"],
)
def test_an_entry_of_the_wrong_length_or_content_is_ignored_and_rewritten(filled, spoil, caplog):
    changed(filled, spoil)
    assert filled.read(BOTH) == {}
    filled.write({b"cup": CUP})
    assert filled.read(BOTH) == {b"cup": CUP}
    assert warnings_of(caplog) == []


# --- a file that cannot be read or written


def assert_skipped_with_one_warning(cache, caplog, match):
    for _ in range(2):
        cache.write({b"bowl": CUP})
        assert cache.read([b"bowl"]) == {}
    assert len(warnings_of(caplog)) == 1
    assert match in warnings_of(caplog)[0]


def test_a_folder_that_cannot_be_made_is_skipped_with_one_warning(tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    assert_skipped_with_one_warning(TextCache(tmp_path / "file" / CACHE_FILE), caplog, "cannot be written")


def test_a_folder_in_place_of_the_file_is_skipped_with_one_warning(cache, caplog):
    cache.path.mkdir(parents=True)
    assert_skipped_with_one_warning(cache, caplog, "unable to open")


def test_a_file_locked_by_another_process_is_skipped_with_one_warning(filled, caplog, monkeypatch):
    monkeypatch.setattr(text_cache, "_TIMEOUT", 0.01)
    holder = sqlite3.connect(filled.path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    assert_skipped_with_one_warning(filled, caplog, "locked")
    holder.close()
    assert TextCache(filled.path).read([b"cup"]) == {b"cup": CUP}


def connecting(monkeypatch, *, suffix="", pragma="PRAGMA user_version"):
    """Open SQLite connections with a URI parameter or a pragma."""
    plain = sqlite3.connect

    def connect(path, **options):
        connection = plain(f"{Path(path).as_uri()}{suffix}", uri=True, **options)
        connection.execute(pragma)
        return connection

    monkeypatch.setattr(sqlite3, "connect", connect)


def test_a_read_only_file_is_read_and_not_written_with_one_warning(filled, caplog, monkeypatch):
    # a superuser may write any file, so permissions would have no effect
    connecting(monkeypatch, suffix="?mode=ro")
    assert_skipped_with_one_warning(filled, caplog, "readonly")
    assert filled.read([b"cup"]) == {b"cup": CUP}


def test_a_full_disk_keeps_the_old_entries_with_one_warning(filled, caplog, monkeypatch):
    connecting(monkeypatch, pragma="PRAGMA max_page_count = 3")
    filled.write({b"text %d" % index: bytes(12000) for index in range(9)})
    assert_skipped_with_one_warning(filled, caplog, "full")
    assert filled.read(BOTH) == BOTH


# the module alone needs neither torch nor the package, which takes seconds to load
WRITER = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("text_cache", sys.argv[1])
text_cache = importlib.util.module_from_spec(spec)
sys.modules["text_cache"] = text_cache
spec.loader.exec_module(text_cache)
cache = text_cache.TextCache(sys.argv[2])
sys.stdin.read(1)  # wait until both are ready
for number in range(25):
    own, shared = f"{sys.argv[3]} {number}".encode(), f"shared {number}".encode()
    cache.write({own: own, shared: shared})
    assert len(cache.read([own, shared])) == 2 or sys.argv[4] == "damage"
"""


def write_at_once(path, found):
    """Let two processes write to one file; returns their error output."""
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, text_cache.__file__, str(path), name, found],
            stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for name in "ab"
    ]  # fmt: skip
    for writer in writers:
        writer.stdin.write("go")
        writer.stdin.flush()
    complaints = [writer.communicate(timeout=60)[1] for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0], complaints
    return complaints


WRITTEN = [f"{name} {number}".encode() for name, number in product(("a", "b", "shared"), range(25))]


def test_processes_that_write_at_once_all_keep_what_they_wrote(cache):
    assert write_at_once(cache.path, "nothing") == ["", ""]
    assert cache.read(WRITTEN) == {key: key for key in WRITTEN}


def test_processes_that_find_a_damaged_file_at_once_leave_nothing_wrong(cache):
    # what the faster one has written may go with the file that the slower one deletes
    cache.path.parent.mkdir()
    cache.path.write_bytes(b"no database, " * 2000)
    assert "is not a database" in "".join(write_at_once(cache.path, "damage"))
    assert all(key == value for key, value in cache.read(WRITTEN).items())
    assert_made_anew(cache.path)


# --- where


def test_the_environment_names_the_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("FGSEG_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"
    monkeypatch.setenv("FGSEG_CACHE", "OFF")
    assert cache_folder() is None
    assert cache_report() == CacheReport(None, 0)
    monkeypatch.setenv("FGSEG_CACHE", "here")
    assert cache_folder() == Path.cwd() / "here"


@pytest.mark.skipif(sys.platform != "linux", reason="XDG_CACHE_HOME is for Linux")
def test_the_default_folder_is_in_the_users_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("FGSEG_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_folder() == tmp_path / ".cache" / "fgseg"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder() == tmp_path / ".cache" / "fgseg"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "fgseg"


@pytest.mark.parametrize("named", ["", "~nobody-of-this-name/cache"])
def test_without_a_home_the_cache_is_off_with_a_warning(monkeypatch, caplog, named):
    monkeypatch.setenv("FGSEG_CACHE", named)
    # what the library gives where there is no home
    monkeypatch.setattr(text_cache.platformdirs, "user_cache_path", lambda *_, **__: Path("~nobody-of-this-name"))
    assert cache_folder() is None
    assert "no home" in warnings_of(caplog)[0]


def test_the_report_counts_the_files_bytes(monkeypatch, tmp_path):
    monkeypatch.setenv("FGSEG_CACHE", str(tmp_path))
    assert cache_report() == CacheReport(tmp_path / CACHE_FILE, 0)
    TextCache(tmp_path / CACHE_FILE).write({b"cup": CUP})
    assert cache_report().size_bytes == (tmp_path / CACHE_FILE).stat().st_size > 0
