"""Prompts become unit texts, and those used last stay in memory."""

import copy
import pickle
import threading

import pytest
import torch

from fgseg.encoders.loading import load_encoder
from fgseg.segmentation import prompt_encoder
from fgseg.segmentation.model_defaults import model_defaults
from fgseg.segmentation.prompt_encoder import PromptEncoder

WORDS = ["red", "green", "blue", "circle"]


@pytest.fixture
def encoder(tiny_model):
    return load_encoder(tiny_model, device="cpu", dtype="float32")


@pytest.fixture
def room_for_three(encoder, monkeypatch):
    """Memory for three of the tiny model's rows of 8 floats."""
    monkeypatch.setattr(prompt_encoder, "KEPT_BYTES", 3 * 8 * 4)
    return PromptEncoder(encoder, model_defaults(encoder))


def encoded_texts(encoder, monkeypatch):
    """The texts that an encoder encodes from now on."""
    seen, plain = [], encoder.encode_texts

    def encode_texts(texts, *, route="region"):
        seen.extend(texts)
        return plain(texts, route=route)

    monkeypatch.setattr(encoder, "encode_texts", encode_texts)
    return seen


def test_a_text_in_memory_is_not_encoded_again(encoder, monkeypatch):
    prompts = PromptEncoder(encoder, model_defaults(encoder))
    seen = encoded_texts(encoder, monkeypatch)
    first = prompts.phrases(WORDS, ["{}"]), prompts.captions(WORDS, "short")
    again = prompts.phrases(WORDS[::-1], ["{}"]), prompts.captions(WORDS[::-1], "short")
    assert seen == WORDS * 2
    for one, other in zip(first, again, strict=True):
        assert torch.equal(one, other.flip(0))


def test_the_same_word_in_other_templates_or_by_another_route_is_another_text(encoder, monkeypatch):
    prompts = PromptEncoder(encoder, model_defaults(encoder))
    seen = encoded_texts(encoder, monkeypatch)
    prompts.phrases(["red"], ["{}"])
    prompts.phrases(["red"], ["a {}"])
    prompts.captions(["red"], "short")
    prompts.captions(["red"], "long")
    assert seen == ["red", "a red", "red", "red"]


def test_memory_holds_the_texts_used_last_and_no_more_than_its_bound(room_for_three, encoder, monkeypatch):
    for word in WORDS:
        room_for_three.phrases([word], ["{}"])
        room_for_three.captions([word], "short")
    assert room_for_three._kept.currsize <= 3 * 8 * 4
    assert all(row.untyped_storage().nbytes() == row.nbytes for row in room_for_three._kept.values())
    seen = encoded_texts(encoder, monkeypatch)
    room_for_three.captions(["circle"], "short")
    room_for_three.captions(["red"], "short")
    assert seen == ["red"]


def test_a_request_of_more_texts_than_memory_holds_is_served_whole(room_for_three, encoder):
    assert torch.equal(room_for_three.captions(WORDS, "short"), encoder.encode_texts(WORDS, route="short"))
    room_for_three.captions(["red"], "short")
    assert torch.equal(room_for_three.captions(WORDS, "short"), encoder.encode_texts(WORDS, route="short"))


def test_threads_share_the_memory(room_for_three, encoder):
    expected = encoder.encode_texts(WORDS)
    failures = []

    def use(start):
        for number in range(50):
            index = (start + number) % len(WORDS)
            row = room_for_three.captions([WORDS[index]], "region")[0]
            if not torch.allclose(row, expected[index], atol=1e-6):
                failures.append(WORDS[index])

    threads = [threading.Thread(target=use, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_it_can_be_copied_and_pickled_with_what_it_holds(encoder):
    prompts = PromptEncoder(encoder, model_defaults(encoder))
    expected = prompts.captions(WORDS, "short")
    for other in (copy.deepcopy(prompts), pickle.loads(pickle.dumps(prompts))):
        assert torch.equal(other.captions(WORDS, "short"), expected)
