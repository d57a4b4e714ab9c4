import itertools
import logging
import os
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays

from fgseg.encoders import text_cache as textcache, text_features as texts
from fgseg.encoders.loading import load_encoder
from fgseg.encoders.text_cache import CACHE_FILE, CacheReport, FeatureSpace, TextCache, cache_folder, cache_report
from fgseg.encoders.text_features import StoredTexts
from fgseg.errors import OptionError, PromptError
from fgseg.segmenter import Segmenter
from fgseg.similarity import ensemble

SPACE = FeatureSpace("a sha256", "cpu", "float32", "region", 3)
CUP, MUG = np.array([[0.6, 0.8, 0], [-0.0, 1e-42, np.nan]], np.float32)  # nan, -0 and a subnormal: bits, not numbers


@pytest.fixture
def cache(tmp_path):
    return TextCache(tmp_path / "folder" / CACHE_FILE)


@pytest.fixture
def filled(cache):
    cache.add(SPACE, {"cup": CUP, "mug": MUG})
    return cache


def assert_same_bits(found, expected):
    assert found.keys() == expected.keys()
    for text, feature in expected.items():
        assert found[text].dtype == np.float32
        assert found[text].tobytes() == feature.tobytes()


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
@given(st.dictionaries(st.text(max_size=6), arrays(np.float32, 3), max_size=4))
def test_features_come_back_bit_for_bit_under_any_text(tmp_path_factory, features):
    path = tmp_path_factory.mktemp("cache") / CACHE_FILE
    TextCache(path).add(SPACE, features)
    assert_same_bits(TextCache(path).features(SPACE, list(features)), features)


def test_a_text_that_was_not_added_is_missing_and_asking_makes_no_file(cache):
    assert cache.features(SPACE, ["cup"]) == {}
    assert not cache.path.exists()
    cache.add(SPACE, {"cup": CUP})
    assert_same_bits(cache.features(SPACE, ["mug", "cup"]), {"cup": CUP})


@pytest.mark.parametrize(
    "other",
    [{"weights": "b sha256"}, {"device": "cuda"}, {"dtype": "bfloat16"}, {"route": "long"}, {"width": 4}],
    ids=lambda other: next(iter(other)),
)
def test_a_text_of_other_weights_device_dtype_route_or_width_is_missing(filled, other):
    assert filled.features(replace(SPACE, **other), ["cup"]) == {}


def test_more_texts_than_a_query_takes_are_all_found(cache, monkeypatch):
    monkeypatch.setattr(textcache, "_KEYS_A_QUERY", 2)
    features = {f"text {index}": np.full(3, index, np.float32) for index in range(7)}
    cache.add(SPACE, features)
    assert cache.features(SPACE, list(features)).keys() == features.keys()


def test_a_file_over_the_limit_loses_its_oldest_entries_and_grows_no_more(cache, monkeypatch):
    monkeypatch.setattr(textcache, "LIMIT_BYTES", 300_000)
    wide = replace(SPACE, width=1000)
    batches = [[f"text {batch} {number}" for number in range(20)] for batch in range(10)]
    for batch in batches:  # 80 kB each
        cache.add(wide, {text: np.zeros(1000, np.float32) for text in batch})
    counts = [len(cache.features(wide, batch)) for batch in batches]
    assert cache.path.stat().st_size < 450_000
    assert counts == sorted(counts)
    assert counts[0] == 0
    assert counts[-2:] == [20, 20]


# --- a file that is not what it should be


@pytest.mark.parametrize("size", [0, 1, 50, 100, 5000, 16384, 16385, 20000, 32768, 49151])
def test_a_truncated_file_gives_nothing_wrong_and_is_made_anew(filled, size):
    assert filled.path.stat().st_size == 3 * 16384
    os.truncate(filled.path, size)
    for text, feature in filled.features(SPACE, ["cup", "mug"]).items():
        assert feature.tobytes() == {"cup": CUP, "mug": MUG}[text].tobytes()
    filled.add(SPACE, {"cup": CUP, "mug": MUG})
    assert_same_bits(TextCache(filled.path).features(SPACE, ["cup"]), {"cup": CUP})


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 3 * 16384 - 1), st.binary(min_size=1, max_size=40))
def test_bytes_overwritten_anywhere_give_nothing_wrong_and_no_error(tmp_path_factory, start, junk):
    cache = TextCache(tmp_path_factory.mktemp("cache") / CACHE_FILE)
    cache.add(SPACE, {"cup": CUP, "mug": MUG})
    data = bytearray(cache.path.read_bytes())
    data[start : start + len(junk)] = junk
    cache.path.write_bytes(data)
    for text, feature in cache.features(SPACE, ["cup", "mug"]).items():
        assert feature.tobytes() == {"cup": CUP, "mug": MUG}[text].tobytes()
    cache.add(SPACE, {"cup": CUP})


@pytest.mark.parametrize(
    "spoil",
    [
        lambda cache: cache.path.write_bytes(b"no database, " * 2000),
        lambda cache: changed(cache, "PRAGMA user_version = 99"),
        lambda cache: changed(cache, "PRAGMA user_version = 0"),
        lambda cache: changed(cache, "ALTER TABLE entries RENAME COLUMN crc TO sum"),
        lambda cache: changed(cache, "DROP TABLE entries"),
    ],
    ids=["no database", "newer version", "no version", "other columns", "no table"],
)
def test_a_file_that_is_no_database_or_of_another_version_is_made_anew_with_a_warning(filled, spoil, caplog):
    spoil(filled)
    assert filled.features(SPACE, ["cup"]) == {}
    assert len(warnings_of(caplog)) == 1
    assert "made anew" in warnings_of(caplog)[0]
    filled.add(SPACE, {"cup": CUP})
    assert_same_bits(TextCache(filled.path).features(SPACE, ["cup"]), {"cup": CUP})
    assert len(warnings_of(caplog)) == 1


def test_a_journal_of_a_damaged_file_is_not_played_back_into_the_new_one(filled):
    journal = filled.path.with_name(f"{CACHE_FILE}-journal")
    filled.path.write_bytes(b"no database, " * 2000)
    journal.write_bytes(b"old pages")
    filled.add(SPACE, {"cup": CUP})
    assert not journal.exists()
    assert_same_bits(filled.features(SPACE, ["cup"]), {"cup": CUP})


@pytest.mark.parametrize(
    "spoil",
    [
        "UPDATE entries SET value = substr(value, 1, 8)",
        "UPDATE entries SET value = CAST(value || x'00000000' AS BLOB)",
        "UPDATE entries SET value = x'000000000000000000000000'",
        "UPDATE entries SET value = 'twelve bytes'",
        "UPDATE entries SET value = CAST(x'ff80' AS TEXT)",
        "UPDATE entries SET value = NULL",
        "UPDATE entries SET crc = NULL",
        "UPDATE entries SET crc = crc + 1",
        # as a stray journal would leave it: one's value and sum under the other's key
        "REPLACE INTO entries SELECT there.key, here.value, here.crc FROM entries here JOIN entries there "
        "ON here.key != there.key",
    ],
    ids=["short", "long", "zeros", "text", "no utf-8", "null", "no sum", "other sum", "swapped"],
)
def test_an_entry_of_the_wrong_length_or_content_is_ignored_and_rewritten(filled, spoil, caplog):
    changed(filled, spoil)
    assert filled.features(SPACE, ["cup", "mug"]) == {}
    filled.add(SPACE, {"cup": CUP})
    assert_same_bits(filled.features(SPACE, ["cup", "mug"]), {"cup": CUP})
    assert warnings_of(caplog) == []


def test_an_entry_of_another_width_with_a_right_sum_is_ignored(filled):
    keys = list(SPACE.keys(["cup"]))
    value = CUP[:2].tobytes()
    changed(filled, "UPDATE entries SET value = ?, crc = ? WHERE key = ?", value, textcache._crc(keys[0], value), *keys)
    assert filled.features(SPACE, ["cup"]) == {}


# --- a file that cannot be read or written


def assert_skipped_with_one_warning(cache, caplog, match):
    for _ in range(2):
        cache.add(SPACE, {"bowl": CUP})
        assert "bowl" not in cache.features(SPACE, ["bowl"])
    assert len(warnings_of(caplog)) == 1
    assert match in warnings_of(caplog)[0]


def test_a_folder_that_cannot_be_made_is_skipped_with_one_warning(tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    assert_skipped_with_one_warning(TextCache(tmp_path / "file" / CACHE_FILE), caplog, "cannot be written")


def test_a_folder_in_place_of_the_file_is_skipped_with_one_warning(cache, caplog):
    cache.path.mkdir(parents=True)
    assert_skipped_with_one_warning(cache, caplog, "unable to open")


def test_a_file_locked_by_another_process_is_skipped_with_one_warning(filled, caplog, monkeypatch):
    monkeypatch.setattr(textcache, "_PATIENCE", 0.01)
    holder = sqlite3.connect(filled.path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    assert_skipped_with_one_warning(filled, caplog, "locked")
    holder.close()
    assert_same_bits(TextCache(filled.path).features(SPACE, ["cup"]), {"cup": CUP})


def connecting(monkeypatch, *, suffix="", pragma="PRAGMA user_version"):
    """SQLite connections with a URI parameter or a pragma of the test's."""
    plain = sqlite3.connect

    def connect(path, **options):
        connection = plain(f"{Path(path).as_uri()}{suffix}", uri=True, **options)
        connection.execute(pragma)
        return connection

    monkeypatch.setattr(sqlite3, "connect", connect)


def test_a_read_only_file_is_read_and_not_written_with_one_warning(filled, caplog, monkeypatch):
    # a superuser may write anything, so permissions would not do
    connecting(monkeypatch, suffix="?mode=ro")
    assert_skipped_with_one_warning(filled, caplog, "readonly")
    assert_same_bits(filled.features(SPACE, ["cup"]), {"cup": CUP})


def test_a_full_disk_keeps_what_was_there_with_one_warning(filled, caplog, monkeypatch):
    connecting(monkeypatch, pragma="PRAGMA max_page_count = 3")
    many = {f"text {index}": np.zeros(3000, np.float32) for index in range(9)}
    filled.add(replace(SPACE, width=3000), many)
    assert_skipped_with_one_warning(filled, caplog, "full")
    assert_same_bits(filled.features(SPACE, ["cup", "mug"]), {"cup": CUP, "mug": MUG})


# textcache alone needs neither torch nor the package, which takes seconds to load
WRITER = """
import importlib.util, sys
import numpy as np
spec = importlib.util.spec_from_file_location("textcache", sys.argv[1])
textcache = importlib.util.module_from_spec(spec)
sys.modules["textcache"] = textcache
spec.loader.exec_module(textcache)
space = textcache.FeatureSpace("a sha256", "cpu", "float32", "region", 3)
cache = textcache.TextCache(sys.argv[2])
sys.stdin.read(1)  # until all are ready
for number in range(25):
    own, shared = f"{sys.argv[3]} {number}", f"shared {number}"
    cache.add(space, {own: np.full(3, number, np.float32), shared: np.full(3, -number, np.float32)})
    assert len(cache.features(space, [own, shared])) == 2 or sys.argv[4] == "damage"
"""


def write_at_once(path, found):
    """Two processes write to one file; their error output."""
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, textcache.__file__, str(path), name, found],
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


WRITTEN = {f"{name} {number}": number for name, number in itertools.product("ab", range(25))}
WRITTEN |= {f"shared {number}": -number for number in range(25)}


def test_processes_that_write_at_once_all_keep_what_they_wrote(cache):
    assert write_at_once(cache.path, "nothing") == ["", ""]
    assert {text: int(feature[0]) for text, feature in cache.features(SPACE, list(WRITTEN)).items()} == WRITTEN


def test_processes_that_find_a_damaged_file_at_once_leave_a_sound_one(cache):
    # what the faster one has written may go with the file that the slower one deletes
    cache.path.parent.mkdir()
    cache.path.write_bytes(b"no database, " * 2000)
    assert "made anew" in "".join(write_at_once(cache.path, "damage"))
    found = cache.features(SPACE, list(WRITTEN))
    assert all((feature == WRITTEN[text]).all() for text, feature in found.items())
    cache.add(SPACE, {"cup": CUP})
    assert_same_bits(cache.features(SPACE, ["cup"]), {"cup": CUP})


# --- digests of files


def aged(path, text):
    path.write_text(text)
    return path


@pytest.fixture
def settled(monkeypatch):
    """Files count as old at once."""
    monkeypatch.setattr(textcache, "_SETTLED_NS", -(10**12))


def test_a_digest_is_computed_once_until_the_file_changes(cache, tmp_path, settled):
    file = aged(tmp_path / "weights", "one")
    assert cache.digest([file], lambda: "aa" * 32) == "aa" * 32
    assert TextCache(cache.path).digest([file], lambda: "bb" * 32) == "aa" * 32
    aged(file, "other")
    assert cache.digest([file], lambda: "cc" * 32) == "cc" * 32


def test_a_file_of_the_same_size_and_time_of_modification_is_told_apart(cache, tmp_path, settled):
    file = aged(tmp_path / "weights", "one")
    os.utime(file, ns=(0, 0))
    assert cache.digest([file], lambda: "aa" * 32) == "aa" * 32
    aged(file, "two")
    os.utime(file, ns=(0, 0))  # as copying tools do
    assert cache.digest([file], lambda: "bb" * 32) == "bb" * 32


def test_a_file_that_is_too_young_to_tell_is_not_remembered(cache, tmp_path):
    file = aged(tmp_path / "weights", "one")
    assert cache.digest([file], lambda: "aa" * 32) == "aa" * 32
    assert cache.digest([file], lambda: "bb" * 32) == "bb" * 32


def test_a_file_that_changes_while_it_is_read_is_not_remembered(cache, tmp_path, settled):
    file = aged(tmp_path / "weights", "one")

    def compute():
        aged(file, "three")
        return "aa" * 32

    assert cache.digest([file], compute) == "aa" * 32
    aged(file, "one")
    assert cache.digest([file], lambda: "bb" * 32) == "bb" * 32


# --- where


def test_the_folder_is_what_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("FGSEG_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"
    monkeypatch.setenv("FGSEG_CACHE", "OFF")
    assert cache_folder() is None
    assert cache_report() == CacheReport(None, 0)
    monkeypatch.setenv("FGSEG_CACHE", "here")
    assert cache_folder() == Path.cwd() / "here"


@pytest.mark.skipif(os.name == "nt", reason="XDG and HOME are not for Windows")
def test_without_a_name_the_folder_is_in_the_users_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("FGSEG_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_folder() == tmp_path / ".cache" / "fgseg"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder() == tmp_path / ".cache" / "fgseg"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "fgseg"


def test_without_a_home_the_cache_is_off_with_a_warning(monkeypatch, caplog):
    def nobody():
        raise RuntimeError("Could not determine home directory.")

    for name in ("FGSEG_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", nobody)
    assert cache_folder() is None
    assert "no home" in warnings_of(caplog)[0]


def test_the_report_counts_the_files_bytes(monkeypatch, tmp_path):
    monkeypatch.setenv("FGSEG_CACHE", str(tmp_path))
    assert cache_report() == CacheReport(tmp_path / CACHE_FILE, 0)
    TextCache(tmp_path / CACHE_FILE).add(SPACE, {"cup": CUP})
    assert cache_report().size_bytes == (tmp_path / CACHE_FILE).stat().st_size > 0


# --- an encoder's texts

WORDS = ["red", "blue circle", "green"]


@pytest.fixture
def disk(monkeypatch, tmp_path):
    """A cache of the test's own that tiny models use too."""
    monkeypatch.setenv("FGSEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(texts, "WORTHWHILE_BYTES", 0)
    return tmp_path / "cache" / CACHE_FILE


def tiny_encoder(folder, dtype="float32"):
    return load_encoder(str(folder), dtype=dtype, device="cpu")


@pytest.fixture
def folder(tiny_model, tmp_path):
    """A copy of the tiny model that a test may change."""
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


def asked_of(encoder, monkeypatch):
    """The texts that an encoder encodes from now on."""
    asked, plain = [], encoder.encode_texts

    def encode_texts(some, *, route="region"):
        asked.extend(some)
        return plain(some, route=route)

    monkeypatch.setattr(encoder, "encode_texts", encode_texts)
    return asked


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("route", ["region", "short", "long"])
def test_a_text_is_encoded_once_ever_and_comes_back_bit_for_bit(disk, folder, monkeypatch, dtype, route):
    encoder = tiny_encoder(folder, dtype)
    fresh = encoder.encode_texts(WORDS, route=route)
    first = StoredTexts(encoder).encode(WORDS, route=route)
    later = tiny_encoder(folder, dtype)
    asked = asked_of(later, monkeypatch)
    again = StoredTexts(later).encode([*WORDS[::-1], "red"], route=route)
    assert asked == []
    assert torch.equal(first, fresh)
    assert torch.equal(again, fresh[[2, 1, 0, 0]])
    assert again.dtype == torch.float32


def test_only_texts_that_are_new_are_encoded(disk, folder, monkeypatch):
    encoder = tiny_encoder(folder)
    StoredTexts(encoder).encode(WORDS[:2], route="region")
    asked = asked_of(encoder, monkeypatch)
    StoredTexts(encoder).encode([*WORDS, "green"], route="region")
    assert asked == ["green"]


def test_a_segmenter_takes_texts_and_digest_from_disk(disk, folder, monkeypatch, settled):
    image = np.zeros((32, 32, 3), np.uint8)
    first = Segmenter(tiny_encoder(folder)).segment(image, WORDS)
    encoder = tiny_encoder(folder)
    asked = asked_of(encoder, monkeypatch)
    monkeypatch.setattr(encoder, "digest", lambda: pytest.fail("the digest is remembered"))
    again = Segmenter(encoder).segment(image, WORDS)
    assert asked == []
    assert again.settings["weights_sha256"] == first.settings["weights_sha256"] == tiny_encoder(folder).digest()
    np.testing.assert_array_equal(again.scores["red"], first.scores["red"])


def test_a_segmenter_gives_the_same_with_and_without_the_cache(disk, folder, monkeypatch):
    image = np.random.RandomState(5).randint(0, 255, (32, 40, 3), np.uint8)
    for _ in range(2):
        cached = Segmenter(tiny_encoder(folder)).segment(image, WORDS)
    monkeypatch.setenv("FGSEG_CACHE", "off")
    plain = Segmenter(tiny_encoder(folder)).segment(image, WORDS)
    for word in WORDS:
        np.testing.assert_array_equal(cached.scores[word], plain.scores[word])


def test_the_embedded_model_touches_no_disk(monkeypatch, tmp_path):
    monkeypatch.setenv("FGSEG_CACHE", str(tmp_path / "cache"))
    stored = StoredTexts(load_encoder("mini", dtype="float32", device="cpu"))
    stored.encode(["red"], route="region")
    stored.digest()
    assert not (tmp_path / "cache").exists()


def test_an_encoder_of_unknown_files_goes_without_the_cache(disk, folder):
    encoder = tiny_encoder(folder)
    expected = encoder.encode_texts(WORDS)
    del encoder.checkpoint
    assert torch.equal(StoredTexts(encoder).encode(WORDS, route="region"), expected)
    assert not disk.exists()


def test_turned_off_the_cache_leaves_no_file(disk, folder, monkeypatch):
    monkeypatch.setenv("FGSEG_CACHE", "off")
    StoredTexts(tiny_encoder(folder)).encode(WORDS, route="region")
    assert not disk.parent.exists()


def test_ensembles_are_read_from_disk_without_their_texts(disk, folder, monkeypatch):
    groups = [("a red thing", "red"), ("green",), ("blue circle", "a blue circle"), ("a red thing", "red")]
    first = StoredTexts(tiny_encoder(folder)).ensembles(groups, route="region")
    encoder = tiny_encoder(folder)
    rows = encoder.encode_texts([text for group in groups for text in group])
    torch.testing.assert_close(first, ensemble(rows, [0, 0, 1, 2, 2, 3, 3]), atol=1e-6, rtol=0)
    asked, read = asked_of(encoder, monkeypatch), []
    features = TextCache.features
    monkeypatch.setattr(TextCache, "features", lambda *a: read.extend(a[2]) or features(*a))
    again = StoredTexts(encoder).ensembles([*groups, ("red", "green")], route="region")
    assert torch.equal(again[:4], first)
    assert asked == []  # red and green are known as texts
    assert not {"a red thing", "blue circle", "a blue circle"} & set(read)


def test_ensembles_of_the_same_texts_in_another_order_or_route_are_others(disk, folder):
    stored = StoredTexts(tiny_encoder(folder))
    made = [stored.ensembles([("red", "a")], route=route) for route in ("region", "long")]
    assert not torch.equal(*made)
    torch.testing.assert_close(stored.ensembles([("a", "red")], route="region"), made[0], atol=1e-6, rtol=0)


@pytest.mark.parametrize("when", ["before the first text", "after it"])
@pytest.mark.parametrize("change", ["in place", "by data", "replaced", "module"])
def test_weights_changed_in_memory_neither_take_nor_leave_features_of_the_files(disk, folder, when, change):
    expected = StoredTexts(tiny_encoder(folder)).encode(WORDS, route="region")
    encoder = tiny_encoder(folder)
    stored = StoredTexts(encoder)
    if when == "after it":
        stored.encode(WORDS, route="region")
    weight = encoder.model.text_projection.weight
    if change == "in place":
        weight.mul_(torch.linspace(0.5, 2, len(weight))[:, None])
    elif change == "by data":
        weight.data = weight.data.flip(0).contiguous() + 0.25
    elif change == "replaced":
        encoder.model.text_projection.weight = torch.nn.Parameter(weight.flip(1) + 0.25, requires_grad=False)
    else:
        encoder.model.text_projection = torch.nn.Sequential(encoder.model.text_projection, torch.nn.Tanh())
    tuned = stored.encode(WORDS, route="region")
    assert torch.equal(tuned, encoder.encode_texts(WORDS))
    assert not torch.equal(tuned, expected)
    assert torch.equal(StoredTexts(tiny_encoder(folder)).encode(WORDS, route="region"), expected)


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json"])
def test_another_config_or_tokenizer_beside_the_same_weights_takes_no_features_of_the_old(
    disk, folder, monkeypatch, file
):
    StoredTexts(tiny_encoder(folder)).encode(WORDS, route="region")
    (folder / file).write_text((folder / file).read_text(encoding="utf-8") + "\n", encoding="utf-8")
    encoder = tiny_encoder(folder)
    asked = asked_of(encoder, monkeypatch)
    StoredTexts(encoder).encode(WORDS, route="region")
    assert asked == WORDS


def test_a_long_list_that_is_interrupted_keeps_what_it_has(disk, folder, monkeypatch):
    monkeypatch.setattr(texts, "TEXTS_A_TRANSACTION", 2)
    encoder = tiny_encoder(folder)
    with monkeypatch.context() as patch:
        plain = encoder.encode_texts

        def interrupted(some, *, route):
            if "green" in some:
                raise KeyboardInterrupt
            return plain(some, route=route)

        patch.setattr(encoder, "encode_texts", interrupted)
        with pytest.raises(KeyboardInterrupt):
            StoredTexts(encoder).encode(WORDS, route="region")
    asked = asked_of(encoder, monkeypatch)
    StoredTexts(encoder).encode(WORDS, route="region")
    assert asked == ["green"]


def test_a_model_folder_that_is_removed_costs_the_cache_and_not_the_run(disk, folder, caplog):
    encoder = tiny_encoder(folder)
    stored, expected = StoredTexts(encoder), encoder.encode_texts(WORDS)
    shutil.rmtree(folder)
    assert torch.equal(stored.encode(WORDS, route="region"), expected)
    assert "encoded anew" in warnings_of(caplog)[0]


@pytest.mark.parametrize("bad", [[], [" "], "red", [3]], ids=repr)
def test_what_an_encoder_refuses_is_refused_with_the_cache_too(disk, folder, bad):
    with pytest.raises(PromptError, match="text"):
        StoredTexts(tiny_encoder(folder)).encode(bad, route="region")


def test_a_route_the_model_does_not_have_is_refused_with_the_cache_too(disk, folder):
    with pytest.raises(OptionError, match="route"):
        StoredTexts(tiny_encoder(folder)).encode(WORDS, route="loud")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.uint8])
@pytest.mark.parametrize("count", [1, 3, 8, 13])
def test_a_sum_of_bits_changes_with_every_element_and_not_with_the_place_in_memory(dtype, count):
    values = torch.arange(count + 1).to(dtype)[1:]  # starts at an odd place
    whole = texts._sums({"weight": values})
    assert whole == texts._sums({"weight": values.clone()})
    for index in range(count):
        other = values.clone()
        other[index] += 1
        assert texts._sums({"weight": other}) != whole
