"""Classes, background words and negative words from strings."""

import subprocess
import sys

import pytest
from hypothesis import given, settings, strategies as st

from fgseg.errors import OptionError, PromptError
from fgseg.prompts.classes import PromptClass, PromptSet, make_prompt_set, parse_classes
from fgseg.prompts.word_lists import BACKGROUND_WORDS

few = settings(deadline=None, max_examples=60)

words = st.text(alphabet="abC {}\\é犬", min_size=1, max_size=6).filter(lambda text: text.strip() == text)

word_lists = st.lists(words, min_size=1, max_size=5, unique_by=lambda text: " ".join(text.casefold().split()))


def test_one_string_is_one_class_and_commas_separate_its_synonyms():
    red, circle, person = parse_classes(["red", " blue circle ", "person, man ,woman"])
    assert red == PromptClass("red", ("red",), None)
    assert circle == PromptClass("blue circle", ("blue circle",))
    assert person == PromptClass("person", ("person", "man", "woman"))


def test_a_backslash_or_a_prompt_class_keeps_a_comma():
    own = PromptClass("sitting", ("a cat, sitting",), (1, 2, 3))
    escaped, given_class = parse_classes([r"a dog\, sitting, puppy", own])
    assert escaped == PromptClass("a dog, sitting", ("a dog, sitting", "puppy"))
    assert given_class is own


@few
@given(st.lists(st.text(alphabet="ab, ", min_size=1, max_size=5), min_size=1, max_size=3))
def test_phrases_with_escaped_commas_are_parsed_back_unchanged(phrases):
    phrases = list({" ".join(phrase.split()): None for phrase in phrases if phrase.strip()}) or [","]
    (parsed,) = parse_classes([",".join(phrase.replace(",", "\\,") for phrase in phrases)])
    assert parsed.synonyms == tuple(phrases)


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ([], r"prompts: expected at least one, got none; write \['red'\]"),
        ("red", r"prompts: expected a list of strings, got str 'red'"),
        ({"red": 1}, r"prompts: expected a list of strings, got dict"),
        ({"red"}, r"prompts: expected a list of strings, got set"),
        (None, r"prompts: expected a list of strings, got NoneType"),
        (["red", ""], r"prompts\[1\]: expected a word or phrase, got an empty string"),
        (["red", " \t "], r"prompts\[1\]: expected a word or phrase, got an empty string"),
        (["a,,b"], r"prompts\[0\]: expected a word on each side of a comma, got 'a,,b'"),
        (["a,"], r"prompts\[0\]: expected a word on each side of a comma, got 'a,'"),
        (["red", 3], r"prompts\[1\]: expected a string, got int 3"),
        (["two\nlines"], r"prompts\[0\]: expected one line, got 'two\\nlines'"),
        (["red", "dog", "Red"], r"prompts\[0\] and prompts\[2\]: expected each class once, got 'Red' twice"),
        (
            ["person,man", "boy, MAN"],
            r"prompts\[0\] and prompts\[1\]: expected a query word in one class, got 'MAN'",
        ),
        (["man,man"], r"prompts\[0\]: synonyms: expected each word once, got 'man' twice"),
    ],
)
def test_classes_that_cannot_be_turned_into_texts_are_refused(values, match):
    with pytest.raises(PromptError, match=match):
        parse_classes(values)


def test_two_classes_may_share_a_query_word_only_if_that_is_allowed():
    # SCLIP's class file of coco-object: "bed" is a background word in line 1 and a class in line 61.
    lines = [", ".join(BACKGROUND_WORDS), "person", "bed"]
    with pytest.raises(PromptError, match="shared_synonyms='allow' keeps both"):
        parse_classes(lines)
    assert [len(entry.synonyms) for entry in parse_classes(lines, shared_synonyms="allow")] == [26, 1, 1]
    with pytest.raises(PromptError, match="expected each class once"):
        parse_classes(["bed", "bed"], shared_synonyms="allow")
    with pytest.raises(OptionError, match="shared_synonyms: expected 'refuse' or 'allow', got 'yes'"):
        parse_classes(lines, shared_synonyms="yes")


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (("", ("a",)), "name: expected a word or phrase, got an empty string"),
        ((" a", ("a",)), "name: expected no space around it, got ' a'"),
        (("a", ()), "synonyms: expected at least one query word, got none"),
        (("a", "a"), r"synonyms: expected a tuple of strings, got str 'a'; write \('red',\)"),
        (("a", ["a"]), "synonyms: expected a tuple of strings, got list"),
        (("a", ("a", "b ")), r"synonyms\[1\]: expected no space around it, got 'b '"),
        (("a", ("a", None)), r"synonyms\[1\]: expected a string, got NoneType"),
        (("a", ("big dog", "Big  dog")), "synonyms: expected each word once, got 'Big  dog' twice"),
        (("a", ("a",), (0, 0, 256)), r"color: expected three whole numbers from 0 to 255, got \(0, 0, 256\)"),
        (("a", ("a",), (0, -1, 0)), "color: expected three whole numbers"),
        (("a", ("a",), (0, 0)), "color: expected three whole numbers"),
        (("a", ("a",), [0, 0, 0]), "color: expected three whole numbers"),
        (("a", ("a",), (True, 0, 0)), "color: expected three whole numbers"),
        (("a", ("a",), "#ff0000"), "color: expected three whole numbers"),
    ],
)
def test_a_prompt_class_checks_itself(arguments, match):
    with pytest.raises(PromptError, match=match):
        PromptClass(*arguments)


def test_two_spellings_of_an_accent_are_the_same_word_and_other_characters_make_another_word():
    with pytest.raises(PromptError, match="expected each class once"):
        parse_classes(["caf\u00e9", "cafe\u0301"])
    assert len(parse_classes(["m\u00b2", "m2"])) == 2


def test_a_default_background_word_that_a_class_looks_for_is_left_out():
    made = make_prompt_set(["SKY", "plant, tree"])
    assert made.background == tuple(word for word in BACKGROUND_WORDS if word not in ("sky", "tree"))
    assert made.classes == parse_classes(["SKY", "plant, tree"])
    assert made.negatives == ()
    assert make_prompt_set(["sky"], default_background=("sky",)).background == ()


def test_a_given_background_word_that_a_class_looks_for_is_refused():
    match = r"background\[1\]: expected a word that no class looks for, got 'Sky', a query word of class 'air'"
    with pytest.raises(PromptError, match=match):
        make_prompt_set(["air, sky"], background=["wall", "Sky"])


def test_a_word_cannot_be_a_class_and_a_negative():
    with pytest.raises(PromptError, match=r"negatives\[0\]: .* got 'cup', a query word of class 'cup'"):
        make_prompt_set(["cup"], negatives=["cup"])


def test_background_and_negatives_split_at_commas_and_compete_once_each():
    made = make_prompt_set(["cup"], background=["wall, floor"], negatives=[r"plate,Wall,a dish\, white"])
    assert made.background == ("wall", "floor")
    assert made.negatives == ("plate", "Wall", "a dish, white")
    assert made.rivals == ("wall", "floor", "plate", "a dish, white")
    assert make_prompt_set(["cup"], background=()).rivals == ()


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"background": "wall"}, "background: expected a list of strings, got str 'wall'"),
        ({"background": ["wall", "Wall"]}, "background: expected each word once, got 'Wall' twice"),
        ({"background": [""]}, r"background\[0\]: expected a word or phrase, got an empty string"),
        ({"negatives": None}, "negatives: expected a list of strings, got NoneType"),
        ({"negatives": ["a,,b"]}, r"negatives\[0\]: expected a word on each side of a comma"),
        ({"default_background": "sky"}, "default_background: expected a list of strings, got str 'sky'"),
    ],
)
def test_lists_of_rivals_are_checked_like_classes(options, match):
    with pytest.raises(PromptError, match=match):
        make_prompt_set(["cup"], **options)


def test_a_prompt_set_checks_itself_and_may_be_made_with_shared_query_words():
    for classes in ((), ("red",), parse_classes(["red"])[0]):
        with pytest.raises(PromptError, match="classes: expected a tuple of at least one PromptClass, got"):
            PromptSet(classes)
    with pytest.raises(PromptError, match=r"classes\[0\] and classes\[1\]: expected each class once"):
        PromptSet(parse_classes(["a"]) * 2)
    with pytest.raises(PromptError, match="background: expected a tuple of strings, got list"):
        PromptSet(parse_classes(["a"]), background=["b"])
    with pytest.raises(PromptError, match="expected a query word in one class"):
        make_prompt_set(["a, b", "b"])
    assert len(make_prompt_set(["a, b", "b"], shared_synonyms="allow").classes) == 2


@few
@given(word_lists, word_lists)
def test_no_rival_is_a_word_that_a_class_looks_for(queries, defaults):
    made = make_prompt_set([PromptClass(word, (word,)) for word in queries], default_background=defaults)

    def keys(items):
        return {" ".join(item.casefold().split()) for item in items}

    assert keys(made.rivals) == keys(defaults) - keys(queries)


def test_prompts_load_no_torch():
    code = (
        "import sys, fgseg; before = set(sys.modules); import fgseg.prompts.classes; "
        "print({'torch'} & (set(sys.modules) - before))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "set()\n"
