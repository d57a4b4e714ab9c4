"""The events of the page, without a browser."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from random_images import random_image
from tiny_models import CLIP, GOLDEN

import fgseg
from fgseg.images.writing import encode_png
from fgseg.web.events import Actions, Form, explained
from fgseg.web.examples import examples, known_prompts, unknown_words, vocabulary, word_groups
from fgseg.web.sessions import MASKS

FORM = Form("red\nblue, navy", "green", "exclusive", 0.5, 0.0, "auto")


def test_every_example_has_prompts_that_the_embedded_model_knows():
    seg = fgseg.load("mini")
    for name, example in examples().items():
        assert example.load().shape[2] == 3, name
        assert known_prompts(seg, example), name


def test_the_words_that_are_proposed_are_known_to_the_model():
    seg = fgseg.load("mini")
    groups = word_groups(seg)
    assert list(groups) == ["colours", "patterns", "shapes", "materials"]
    for words in groups.values():
        seg.prepare(words)  # refuses an unknown word
    assert unknown_words(seg, ["Red Circle, xyzzy", "plugh"]) == ["xyzzy", "plugh"]


@pytest.mark.parametrize("words", [tuple, None])
def test_a_model_that_takes_any_word_or_has_no_tokenizer_has_no_list_of_words(words):
    seg = fgseg.load(str(GOLDEN / CLIP))  # without a tokenizer
    if words:
        seg.encoder.tokenizer = SimpleNamespace(words=words)
    assert vocabulary(seg) == frozenset()
    assert word_groups(seg) == {}
    assert unknown_words(seg, ["xyzzy"]) == []


@pytest.fixture
def actions(service):
    return Actions(service)


def opened(actions, form=FORM):
    secret = actions.service.open(encode_png(random_image()), "a.png")
    return actions.uploaded({"secret": secret}, form, "me")


def test_an_upload_shows_the_image_and_its_result_if_there_are_prompts(actions):
    bare = opened(actions, replace(FORM, prompts=" "))
    assert bare.stage["src"].startswith("data:image/jpeg;base64,")
    assert (bare.stage["width"], bare.stage["height"], bare.note, bare.legend["rows"]) == (60, 40, "", [])
    made = opened(actions)
    assert [row["name"] for row in made.legend["rows"]] == ["red", "blue"]
    assert actions.service.sessions.view(made.secret).layer == MASKS
    assert "Encoding the image" in made.note
    assert made.secret in made.downloads


def test_an_upload_with_wrong_prompts_shows_the_image_and_the_error(actions):
    update = opened(actions, replace(FORM, prompts="xyzzy"))
    assert update.stage is not None
    assert "never seen the word" in update.note
    assert 'role="alert"' in update.note


def test_a_second_run_says_that_the_features_were_kept(actions, encodings):
    first = opened(actions)
    again = actions.run(first.secret, replace(FORM, prompts="purple"))
    assert "kept from before, 0 ms" in again.note
    assert len(encodings) == 1
    assert (again.masks["names"], first.masks["names"]) == (["purple"], ["red", "blue"])
    assert again.stage is None  # the image is sent once


def test_an_example_brings_its_own_prompts(actions):
    own = replace(FORM, prompts="purple", negatives="green")
    update = actions.example({"name": "coffee.png"}, own, "me")
    assert update.prompts == "red\nwhite\nbrown, tan"
    assert update.masks["names"] == ["red", "white", "brown"]
    other = actions.example({"name": "chelsea.png"}, replace(FORM, prompts=update.prompts), "me")
    assert other.prompts == "orange, brown\npink\ngreen"
    assert len(actions.service.sessions) == 1
    unknown = explained(actions.example, {"name": "/etc/passwd"}, FORM, "me")
    assert "example: expected one of coffee.png" in unknown.note


def test_the_smallest_region_is_a_percentage_of_the_image(actions):
    secret = opened(actions).secret  # 60 x 40 pixels
    actions.run(secret, replace(FORM, min_percent=2))
    assert actions.service.result(secret).request.min_area == 48
    assert replace(FORM, min_percent=0).request(2400).min_area == "auto"
    note = explained(actions.run, secret, replace(FORM, min_percent=-1)).note
    assert "smallest region: expected a number from 0 to 100" in note


def test_a_guide_and_regions_are_used_only_where_they_are_chosen():
    plain = FORM.request(100)
    assert (plain.guide, plain.recipe, plain.region_map, plain.vote) == (None, None, None, False)
    chosen = replace(FORM, propagate="both", guide="self", recipe="corr", region_map="superpixels").request(100)
    assert (chosen.propagate, chosen.guide, chosen.recipe) == ("both", "self", "corr")
    assert (chosen.region_map, chosen.vote) == ("superpixels", True)


def test_what_cannot_be_combined_is_refused_with_a_sentence(actions):
    secret = opened(actions).secret
    note = explained(actions.run, secret, replace(FORM, region_map="superpixels", vote=False)).note
    assert "nothing uses the regions unless they vote" in note


def test_an_unknown_word_names_the_command_of_a_model_that_knows_every_word(actions):
    note = opened(actions, replace(FORM, prompts="red, <xyzzy>")).note
    assert "run fgseg serve --model fg-clip-base" in note
    other = opened(actions, replace(FORM, prompts="red,,blue")).note  # an error about something else
    assert "drop a comma" in other
    assert "fgseg serve" not in other


def test_the_layer_is_kept_until_the_prompts_change_and_the_mark_until_it_is_cleared(actions):
    secret = opened(actions).secret
    actions.choose(secret, {"layer": 1})
    marked = actions.mark(secret, {"box": [0.5, 0.5, 0.5, 0.5]})
    assert marked.legend["where"] == "at 30, 20"
    assert marked.legend["isPoint"]
    assert marked.legend["layer"] == 1
    assert 0 <= marked.legend["rows"][0]["mean"] <= 1
    warmer = actions.refresh(secret, replace(FORM, threshold=0.4))
    assert (warmer.legend["layer"], warmer.legend["where"]) == (1, "at 30, 20")
    other = actions.run(secret, replace(FORM, prompts="purple"))
    assert (other.legend["layer"], other.legend["where"]) == (MASKS, "at 30, 20")
    cleared = actions.mark(secret, {"box": None})
    assert cleared.legend["where"] == ""
    assert cleared.legend["rows"][0]["mean"] is None
    box = actions.mark(secret, {"box": [0.0, 0.0, 0.5, 1.0]})
    assert box.legend["where"] == "from 0, 0 to 30, 39"
    assert not box.legend["isPoint"]


def test_a_point_and_a_layer_that_are_chosen_during_a_run_are_not_lost(actions, monkeypatch):
    secret, segment = opened(actions).secret, actions.service.segment

    def meanwhile(*args):
        assert actions.mark(secret, {"box": [0.5, 0.5, 0.5, 0.5]}).legend["where"] == "at 30, 20"
        assert actions.choose(secret, {"layer": 1}).legend["layer"] == 1
        return segment(*args)

    monkeypatch.setattr(actions.service, "segment", meanwhile)
    answer = actions.refresh(secret, replace(FORM, threshold=0.4))
    assert (answer.legend["where"], answer.legend["layer"]) == ("at 30, 20", 1)
    assert actions.run(secret, replace(FORM, prompts="purple")).legend["layer"] == MASKS  # of other prompts


def test_a_heatmap_lies_over_the_image_until_the_masks_are_chosen(actions):
    secret = opened(actions).secret
    chosen = actions.choose(secret, {"layer": 1})
    assert chosen.heatmap["src"].startswith("data:image/jpeg;base64,")
    assert chosen.heatmap["alt"] == "The image a.png under the heatmap of blue"
    assert chosen.masks is None  # they are sent with each result only
    assert actions.refresh(secret, replace(FORM, threshold=0.4)).heatmap["src"] == chosen.heatmap["src"]
    masks = actions.choose(secret, {"layer": MASKS})
    assert masks.heatmap == {"src": None, "alt": "The image a.png under the masks of red, blue"}


def test_options_do_nothing_before_a_result(actions):
    for nothing in (actions.refresh(None, FORM), actions.mark(None, {"box": None})):
        assert all(value is None for value in vars(nothing).values())


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda a: a.run(None, FORM), "image: expected an image, got none; drop one, paste one, or choose"),
        (lambda a: a.run("gone", FORM), "this image is not kept any longer; load it again"),
        (lambda a: a.uploaded({"error": "too <large>"}, FORM, "me"), "too &lt;large&gt;"),
        (lambda a: a.uploaded({"secret": "guessed"}, FORM, "me"), "not kept any longer"),
        (lambda a: a.mark(None, {"box": [0, 0, 0, 0]}), "Write prompts and press Segment first"),
        (lambda a: a.choose(opened(a).secret, {"layer": 9}), "layer: expected a class from 0 to 1, got 9"),
        (lambda a: a.choose(opened(a).secret, {"layer": "x"}), "layer: expected a number"),
        (lambda a: a.mark(opened(a).secret, {"box": "all"}), "box: expected four numbers"),
        (lambda a: a.run(opened(a).secret, replace(FORM, mode="both")), "mode: expected one of exclusive, independent"),
    ],
)
def test_an_error_appears_in_the_note_and_changes_nothing_else(actions, act, message):
    update = explained(act, actions)
    assert message.replace("'", "&#x27;") in update.note
    assert all(value is None for name, value in vars(update).items() if name != "note")


def test_an_unexpected_error_shows_no_traceback_and_no_path(actions, monkeypatch, caplog):
    secret = opened(actions).secret

    def broken(*_args, **_kwargs):
        raise FileNotFoundError("/home/someone/secret.bin")

    monkeypatch.setattr(actions.service, "segment", broken)
    note = explained(actions.run, secret, FORM).note
    assert "Something went wrong on the server" in note
    assert "/home" not in note
    assert "Traceback" not in note
    assert "/home/someone/secret.bin" in caplog.text  # the log has it
