"""Texts to token ids. Tests of the older vocab.json files are in test_towers, since they need transformers."""

import json

import numpy as np
import pytest
import torch
from tiny_models import CLIP, FG_CLIP, FG_CLIP_2, GOLDEN, WORDS, golden_encoder, loaded, with_tokenizer, word_tokenizer
from tokenizers import Tokenizer as Backend, models, normalizers, pre_tokenizers, processors

from fgseg.encoders.checkpoint import find_checkpoint
from fgseg.encoders.loading import load_encoder
from fgseg.encoders.tokenizer import MINI_KNOWS, Tokenizer
from fgseg.errors import ModelNotFoundError, OptionError, PromptError, UnknownWordError, WeightsError


@pytest.fixture
def folder_of(tmp_path):
    """A model folder of a family, with a tokenizer of a closed vocabulary."""
    return lambda name: with_tokenizer(tmp_path / name, name)


def clip_like_tokenizer():
    """A small tokenizer of CLIP's kind: byte pairs with an end-of-word mark and an unknown token, in lower case."""
    pieces = ["<start>", "<end>", "c", "u", "p", "p</w>", "s</w>", "cu", "cup</w>"]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    merges = [("c", "u"), ("cu", "p</w>")]
    bytes_and_pairs = models.BPE(vocabulary, merges, unk_token="<end>", end_of_word_suffix="</w>")
    tokenizer = Backend(bytes_and_pairs)
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.RobertaProcessing(("<end>", 1), ("<start>", 0), trim_offsets=False)
    return tokenizer


def test_words_come_between_the_start_and_the_end_token(tmp_path):
    word_tokenizer(CLIP).save(str(tmp_path / "tokenizer.json"))
    assert Tokenizer(tmp_path).encode(["red cup", "the"]) == [[598, 10, 13, 599], [598, 18, 599]]


def test_byte_pairs_merge_as_in_clip_and_an_unknown_piece_is_not_an_error(tmp_path):
    clip_like_tokenizer().save(str(tmp_path / "tokenizer.json"))
    tokenizer = Tokenizer(tmp_path)
    assert tokenizer.encode(["CUP", "cups cup", "x"]) == [[0, 8, 1], [0, 7, 4, 6, 8, 1], [0, 1, 1]]
    assert tokenizer.words() == ()


def test_padding_and_truncation_in_the_tokenizer_file_are_ignored(tmp_path):
    backend = word_tokenizer(CLIP)
    backend.enable_truncation(4)
    backend.enable_padding(length=9, pad_id=0)
    backend.save(str(tmp_path / "tokenizer.json"))
    assert Tokenizer(tmp_path).encode(["a photo of the red cup"]) == [[598, 15, 16, 17, 18, 10, 13, 599]]


def test_the_words_of_a_closed_vocabulary_are_listed_without_its_special_tokens(tmp_path):
    word_tokenizer(CLIP).save(str(tmp_path / "tokenizer.json"))
    assert Tokenizer(tmp_path).words() == tuple(sorted(WORDS))


def test_the_error_about_an_unknown_word_names_it_and_suggests_full_models(folder_of):
    message = r"prompt 'a red teapot'.*never seen the word 'teapot'.*load a full model: .*fg-clip2-base"
    with pytest.raises(PromptError, match=message):
        loaded(folder_of(CLIP)).encode_texts(["red cup", "a red teapot"])


def test_the_embedded_model_names_every_unknown_word_once_with_similar_ones_and_what_it_knows():
    mini = load_encoder("mini", device="cpu", dtype="float32")
    with pytest.raises(UnknownWordError, match=r"prompt 'red xylophone': .* the word 'xylophone'; it knows colours"):
        mini.encode_texts(["red xylophone"])
    with pytest.raises(UnknownWordError) as caught:
        mini.encode_texts(["redd xylophone", "blue", "a xylophone"])
    assert str(caught.value).startswith(
        "prompts: this model has never seen the words 'redd' (similar: 'red'), 'xylophone'; it knows colours (red, "
        "teal), patterns (striped), shapes (circle) and materials (wood); `fgseg models mini` lists its words. For any "
        "word, load a full model: fg-clip-base (601 MB), "
    )


def test_what_the_embedded_model_knows_is_in_its_vocabulary():
    words = Tokenizer(find_checkpoint("mini").folder).words()
    assert {"red", "teal", "striped", "circle", "wood"} <= set(words)
    assert all(word in MINI_KNOWS for word in ("red", "teal", "striped", "circle", "wood"))


def test_a_model_without_a_tokenizer_encodes_images_and_its_error_about_texts_names_the_missing_file():
    encoder = golden_encoder(CLIP)
    assert encoder.encode_images([np.zeros((20, 30, 3), np.uint8)])[0].grid.shape == (6, 6, 24)
    with pytest.raises(ModelNotFoundError, match=r"words need tokenizer\.json beside the weights, and it is missing"):
        encoder.encode_texts(["red cup"])


def test_the_error_about_a_broken_tokenizer_names_the_file(tmp_path):
    (tmp_path / "tokenizer.json").write_text('{"version": "1.0"')
    with pytest.raises(ModelNotFoundError, match=r"tokenizer\.json: cannot be read .*download it again"):
        Tokenizer(tmp_path).encode(["cup"])


def test_a_tokenizer_of_another_model_is_refused_before_the_weights_see_its_tokens(tmp_path):
    folder = tmp_path / "mixed"
    with_tokenizer(folder, CLIP)
    word_tokenizer(FG_CLIP).save(str(folder / "tokenizer.json"))
    with pytest.raises(WeightsError, match="the tokenizer gives token 49407, and the weights have 600 tokens"):
        loaded(folder).encode_texts(["red cup"])


@pytest.mark.parametrize(
    ("name", "route", "limit", "long_route"),
    [
        (CLIP, "region", 77, False),
        (CLIP, "short", 77, False),
        (FG_CLIP, "region", 77, False),
        (FG_CLIP, "short", 77, True),
        (FG_CLIP, "long", 248, False),
        (FG_CLIP_2, "region", 64, False),
        (FG_CLIP_2, "short", 64, True),
        (FG_CLIP_2, "long", 196, False),
    ],
)
def test_one_token_more_than_the_route_allows_is_refused(folder_of, name, route, limit, long_route):
    encoder = loaded(folder_of(name))
    special = 1 if name == FG_CLIP_2 else 2
    longest = " ".join(["red"] * (limit - special))
    assert encoder.encode_texts([longest], route=route).shape[0] == 1
    with pytest.raises(PromptError, match=f"at most {limit} tokens on the {route} route, got {limit + 1}") as caught:
        encoder.encode_texts(["cup", longest + " red"], route=route)
    assert ("route='long'" in str(caught.value)) == long_route


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([], "texts: expected at least one text, got none"),
        ("cup", "expected a list of texts, got the text 'cup'; put it into a list"),
        (["cup", " \n"], r"texts\[1\]: expected words"),
        (["", "cup"], r"texts\[0\]: expected words, got ''"),
        ([3], r"texts\[0\]: expected words, got 3"),
    ],
)
def test_anything_but_a_list_of_texts_is_refused(folder_of, texts, message):
    with pytest.raises(PromptError, match=message):
        loaded(folder_of(CLIP)).encode_texts(texts)


def test_the_error_about_plain_clips_missing_long_route_says_which_model_has_one(folder_of):
    with pytest.raises(
        OptionError, match=r"route: expected one of region, short, got 'long'; .* load an FG-CLIP model"
    ):
        loaded(folder_of(CLIP)).encode_texts(["cup"], route="long")
    with pytest.raises(OptionError, match="route: expected one of region, short, long, got 'box'"):
        loaded(folder_of(FG_CLIP)).encode_texts(["cup"], route="box")


# FG-CLIP 2 reads a text at its last position, so case and padding are part of the input


@pytest.mark.parametrize(("route", "limit"), [("region", 64), ("short", 64), ("long", 196)])
def test_fgclip_2_converts_texts_to_lower_case_and_pads_with_the_tokenizers_pad_token(folder_of, route, limit):
    encoder = loaded(folder_of(FG_CLIP_2))
    row = [10, 13, 1] + [0] * (limit - 3)
    expected = torch.nn.functional.normalize(encoder.model.text_features(torch.tensor([row]), route=route), dim=-1)
    np.testing.assert_allclose(encoder.encode_texts(["Red CUP"], route=route), expected, atol=1e-6)
    with pytest.raises(PromptError, match="'RED'"):  # the file itself has no lower-casing
        Tokenizer(encoder.tokenizer.folder).encode(["RED"])


def test_fgclip_2_pads_with_the_tokenizers_pad_token_and_not_the_configs(tmp_path):
    # the published config class says pad_token_id 1, the published tokenizer pads with 0
    folder = tmp_path / "model"
    with_tokenizer(folder, FG_CLIP_2)
    config = json.loads((GOLDEN / FG_CLIP_2 / "config.json").read_text())
    config["text_config"]["pad_token_id"] = 1
    before = loaded(folder).encode_texts(["red"])
    (folder / "config.json").unlink()
    (folder / "config.json").write_text(json.dumps(config))
    assert torch.equal(loaded(folder).encode_texts(["red"]), before)
    backend = word_tokenizer(FG_CLIP_2).to_str().replace('"<pad>":0', '"<pad>":4')
    (folder / "tokenizer.json").write_text(backend)
    assert loaded(folder).tokenizer.pad_token == 4
    assert not torch.allclose(loaded(folder).encode_texts(["red"]), before, atol=1e-3)
    (folder / "tokenizer.json").write_text(backend.replace('"<pad>":4', '"<filler>":4'))
    assert loaded(folder).tokenizer.pad_token == 0
