"""The texts of an encoder through the cache on disk."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from fgseg.encoders import text_features
from fgseg.encoders.loading import load_encoder
from fgseg.encoders.text_cache import CACHE_FILE, TextCache
from fgseg.encoders.text_features import StoredTexts
from fgseg.errors import OptionError, PromptError
from fgseg.segmenter import Segmenter
from fgseg.similarity import ensemble

WORDS = ["red", "blue circle", "green"]


@pytest.fixture
def disk(monkeypatch, tmp_path):
    """A cache for one test, which tiny models use too."""
    monkeypatch.setenv("FGSEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(text_features, "WORTHWHILE_BYTES", 0)
    return tmp_path / "cache" / CACHE_FILE


def tiny_encoder(folder, dtype="float32"):
    return load_encoder(str(folder), dtype=dtype, device="cpu")


@pytest.fixture
def folder(tiny_model, tmp_path):
    """A copy of the tiny model that a test may change."""
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


def texts_of(encoder, monkeypatch):
    """The texts that an encoder encodes from now on."""
    seen, plain = [], encoder.encode_texts

    def encode_texts(some, *, route="region"):
        seen.extend(some)
        return plain(some, route=route)

    monkeypatch.setattr(encoder, "encode_texts", encode_texts)
    return seen


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("route", ["region", "short", "long"])
def test_a_text_is_encoded_once_and_comes_back_bit_for_bit(disk, folder, monkeypatch, dtype, route):
    encoder = tiny_encoder(folder, dtype)
    fresh = encoder.encode_texts(WORDS, route=route)
    first = StoredTexts(encoder).encode(WORDS, route=route)
    later = tiny_encoder(folder, dtype)
    seen = texts_of(later, monkeypatch)
    again = StoredTexts(later).encode([*WORDS[::-1], "red"], route=route)
    assert seen == []
    assert torch.equal(first, fresh)
    assert torch.equal(again, fresh[[2, 1, 0, 0]])
    assert again.dtype == torch.float32


def test_only_texts_that_are_new_are_encoded(disk, folder, monkeypatch):
    encoder = tiny_encoder(folder)
    StoredTexts(encoder).encode(WORDS[:2], route="region")
    seen = texts_of(encoder, monkeypatch)
    StoredTexts(encoder).encode([*WORDS, "green"], route="region")
    assert seen == ["green"]


def test_a_segmenter_takes_texts_and_digest_from_disk(disk, folder, monkeypatch, settled):
    image = np.zeros((32, 32, 3), np.uint8)
    first = Segmenter(tiny_encoder(folder)).segment(image, WORDS)
    encoder = tiny_encoder(folder)
    seen = texts_of(encoder, monkeypatch)
    monkeypatch.setattr(encoder, "digest", lambda: pytest.fail("the digest is remembered"))
    again = Segmenter(encoder).segment(image, WORDS)
    assert seen == []
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


def test_the_embedded_model_writes_no_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("FGSEG_CACHE", str(tmp_path / "cache"))
    stored = StoredTexts(load_encoder("mini", dtype="float32", device="cpu"))
    stored.encode(["red"], route="region")
    stored.digest()
    assert not (tmp_path / "cache").exists()


def test_an_encoder_without_a_checkpoint_does_not_use_the_cache(disk, folder):
    encoder = tiny_encoder(folder)
    expected = encoder.encode_texts(WORDS)
    del encoder.checkpoint
    assert torch.equal(StoredTexts(encoder).encode(WORDS, route="region"), expected)
    assert not disk.exists()


def test_a_cache_that_is_off_leaves_no_file(disk, folder, monkeypatch):
    monkeypatch.setenv("FGSEG_CACHE", "off")
    StoredTexts(tiny_encoder(folder)).encode(WORDS, route="region")
    assert not disk.parent.exists()


def test_ensembles_are_read_from_disk_without_their_texts(disk, folder, monkeypatch):
    groups = [("a red thing", "red"), ("green",), ("blue circle", "a blue circle"), ("a red thing", "red")]
    first = StoredTexts(tiny_encoder(folder)).ensembles(groups, route="region")
    encoder = tiny_encoder(folder)
    rows = encoder.encode_texts([text for group in groups for text in group])
    torch.testing.assert_close(first, ensemble(rows, [0, 0, 1, 2, 2, 3, 3]), atol=1e-6, rtol=0)
    seen, read = texts_of(encoder, monkeypatch), []
    plain = TextCache.read
    monkeypatch.setattr(TextCache, "read", lambda cache, keys: read.append(len(keys)) or plain(cache, keys))
    again = StoredTexts(encoder).ensembles([*groups, ("red", "green")], route="region")
    assert torch.equal(again[:4], first)
    assert seen == []  # red and green are known as texts
    assert read[-2:] == [4, 2]  # the four groups, and then the texts of the one that is new


def test_ensembles_of_another_route_differ_and_of_another_order_agree(disk, folder):
    stored = StoredTexts(tiny_encoder(folder))
    made = [stored.ensembles([("red", "a")], route=route) for route in ("region", "long")]
    assert not torch.equal(*made)
    torch.testing.assert_close(stored.ensembles([("a", "red")], route="region"), made[0], atol=1e-6, rtol=0)


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json"])
def test_another_config_or_tokenizer_with_the_same_weights_does_not_use_the_old_features(
    disk, folder, monkeypatch, file
):
    StoredTexts(tiny_encoder(folder)).encode(WORDS, route="region")
    (folder / file).write_text((folder / file).read_text(encoding="utf-8") + "\n", encoding="utf-8")
    encoder = tiny_encoder(folder)
    seen = texts_of(encoder, monkeypatch)
    StoredTexts(encoder).encode(WORDS, route="region")
    assert seen == WORDS


def test_a_long_list_that_is_interrupted_keeps_the_finished_texts(disk, folder, monkeypatch):
    monkeypatch.setattr(text_features, "TEXTS_PER_TRANSACTION", 2)
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
    seen = texts_of(encoder, monkeypatch)
    StoredTexts(encoder).encode(WORDS, route="region")
    assert seen == ["green"]


def test_a_model_folder_that_is_removed_disables_the_cache_and_does_not_stop_the_run(disk, folder, caplog):
    encoder = tiny_encoder(folder)
    stored, expected = StoredTexts(encoder), encoder.encode_texts(WORDS)
    shutil.rmtree(folder)
    assert torch.equal(stored.encode(WORDS, route="region"), expected)
    assert "encoded again" in caplog.text


@pytest.mark.parametrize("bad", [[], [" "], "red", [3]], ids=repr)
def test_texts_that_an_encoder_refuses_are_refused_with_the_cache_too(disk, folder, bad):
    with pytest.raises(PromptError, match="text"):
        StoredTexts(tiny_encoder(folder)).encode(bad, route="region")


def test_a_route_that_the_model_does_not_have_is_refused_with_the_cache_too(disk, folder):
    with pytest.raises(OptionError, match="route"):
        StoredTexts(tiny_encoder(folder)).encode(WORDS, route="loud")


# --- digests of files


@pytest.fixture
def settled(monkeypatch):
    """Files count as old at once."""
    monkeypatch.setattr(text_features, "_SETTLED_NS", -(10**12))


@pytest.fixture
def weights(folder):
    return folder / "model.safetensors"


def digest_of(folder, monkeypatch, digest):
    """The digest in a later run, in which the encoder would compute `digest`."""
    encoder = tiny_encoder(folder)
    monkeypatch.setattr(encoder, "digest", lambda: digest)
    return StoredTexts(encoder).digest()


def test_a_digest_is_computed_once_until_the_file_changes(disk, folder, weights, monkeypatch, settled):
    assert digest_of(folder, monkeypatch, "aa" * 32) == "aa" * 32
    assert digest_of(folder, monkeypatch, "bb" * 32) == "aa" * 32
    weights.write_bytes(weights.read_bytes())
    assert digest_of(folder, monkeypatch, "cc" * 32) == "cc" * 32


def test_a_file_rewritten_with_the_same_size_and_time_is_digested_again(disk, folder, weights, monkeypatch, settled):
    os.utime(weights, ns=(0, 0))
    assert digest_of(folder, monkeypatch, "aa" * 32) == "aa" * 32
    weights.write_bytes(weights.read_bytes())
    os.utime(weights, ns=(0, 0))  # as copying tools do
    assert digest_of(folder, monkeypatch, "bb" * 32) == "bb" * 32


def test_the_digest_of_a_file_changed_just_now_is_not_remembered(disk, folder, monkeypatch):
    assert digest_of(folder, monkeypatch, "aa" * 32) == "aa" * 32
    assert digest_of(folder, monkeypatch, "bb" * 32) == "bb" * 32


def test_the_digest_of_a_file_that_changes_meanwhile_is_not_used_again(disk, folder, weights, monkeypatch, settled):
    encoder, content = tiny_encoder(folder), weights.read_bytes()

    def digest():
        weights.write_bytes(b"")
        return "aa" * 32

    monkeypatch.setattr(encoder, "digest", digest)
    assert StoredTexts(encoder).digest() == "aa" * 32
    weights.write_bytes(content)
    assert digest_of(folder, monkeypatch, "bb" * 32) == "bb" * 32
