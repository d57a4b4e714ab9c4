"""Templates, and the texts that they make of query words."""

from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from fgseg.errors import PromptError
from fgseg.prompts.classes import PromptClass
from fgseg.prompts.files import read_template_file
from fgseg.prompts.templates import TextPlan, expand, templates_named
from fgseg.prompts.word_lists import IMAGENET_TEMPLATES

few = settings(deadline=None, max_examples=60)

words = st.text(alphabet="abC {}\\é犬", min_size=1, max_size=6).filter(lambda text: text.strip() == text)

word_lists = st.lists(words, min_size=1, max_size=5, unique_by=lambda text: " ".join(text.casefold().split()))

frames = st.text(alphabet="ab .", max_size=4)

template_lists = st.lists(
    st.tuples(frames, frames).map("{}".join), min_size=1, max_size=4, unique_by=lambda t: " ".join(t.split())
)


@st.composite
def class_lists(draw):
    """Classes of unique names, whose query words are distinct within a class and may recur in another."""
    names = draw(word_lists)
    return [PromptClass(name, tuple(draw(word_lists))) for name in names]


def write(folder: Path, name: str, content: str | bytes) -> Path:
    file = folder / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


def test_templates_come_by_name_from_a_file_or_from_a_list(tmp_path):
    file = write(tmp_path, "t.txt", "# mine\n\na {} here\r\n\n {} \n")
    assert templates_named("none") == ("{}",)
    assert templates_named("imagenet") is IMAGENET_TEMPLATES
    assert templates_named(["{}", "the {}"]) == ("{}", "the {}")
    assert templates_named(file) == templates_named(str(file)) == read_template_file(file) == ("a {} here", "{}")


@pytest.mark.parametrize(
    ("templates", "match"),
    [
        (
            "imagnet",
            "expected 'none', 'imagenet', a text file or a list of templates, got 'imagnet', and there is no",
        ),
        ("", "expected 'none', 'imagenet', a text file or a list of templates, got ''"),
        ("a {}", r"templates: expected a name or a list, got one template; write \['a {}'\]"),
        ([], r"templates: expected a list, got tuple \(\); \['{}'\] is the word alone"),
        (["{}", "a photo"], r"templates\[1\]: expected one {} where the word goes, got str 'a photo'"),
        (["{} and {}"], r"templates\[0\]: expected one {} where the word goes"),
        (["a {c}"], r"templates\[0\]: expected one {} where"),
        ([None], r"templates\[0\]: expected one {} where the word goes, got NoneType None"),
        (
            ["a {}", "{}", "A {}"],
            r"templates\[0\] and templates\[2\]: expected each template once, got 'A {}' twice",
        ),
        (None, "templates: expected 'none', 'imagenet', a text file or a list of templates, got NoneType"),
        ({"{}"}, "templates: expected 'none', 'imagenet', a text file or a list of templates, got set"),
        ("x" * 5000, "templates: expected 'none', .*, and there is no such file"),
        (["a {}\ud83d"], r"templates\[0\]: expected valid Unicode, got 'a {}.ud83d'"),
    ],
)
def test_lists_of_templates_that_are_none_are_refused(templates, match):
    with pytest.raises(PromptError, match=match):
        templates_named(templates)


def test_a_word_is_put_into_all_templates_before_the_next_word():
    classes = [PromptClass("x", ("cup",)), PromptClass("y", ("dog",))]
    assert expand(classes, ["a {}", "{}!"]).texts == ("a cup", "cup!", "a dog", "dog!")


def test_braces_other_than_the_place_are_text():
    assert expand([PromptClass("x", ("{}", "{y}"))], ["{x} {} {0}"]).texts == ("{x} {} {0}", "{x} {y} {0}")


@pytest.mark.parametrize(
    ("templates", "match"),
    [
        ("a {}", "templates: expected a list, got str"),
        ([], "templates: expected a list, got list"),
        (["a"], r"templates\[0\]: expected one {}"),
    ],
)
def test_expand_refuses_templates_that_are_no_list_of_templates(templates, match):
    with pytest.raises(PromptError, match=match):
        expand([PromptClass("cup", ("cup",))], templates)


def test_expand_lists_each_text_once_and_gives_each_query_word_the_indices_of_its_texts():
    classes = [PromptClass("x", ("bed", "a bed")), PromptClass("y", ("cup", "bed"))]
    assert expand(classes, ["{}", "a {}"]) == TextPlan(
        texts=("bed", "a bed", "a a bed", "cup", "a cup"),
        rows=((0, 1), (1, 2), (3, 4), (0, 1)),
        query_to_class=(0, 0, 1, 1),
    )


@few
@given(class_lists(), template_lists)
def test_a_row_of_the_plan_has_the_texts_of_its_query_word_in_every_template(classes, templates):
    plan = expand(classes, templates)
    queries = [(index, word) for index, entry in enumerate(classes) for word in entry.synonyms]
    assert len(plan.rows) == len(queries)
    for (index, word), row, class_index in zip(queries, plan.rows, plan.query_to_class, strict=True):
        assert class_index == index
        assert [plan.texts[i] for i in row] == [word.join(template.split("{}")) for template in templates]
    assert len(set(plan.texts)) == len(plan.texts)
    assert {i for row in plan.rows for i in row} == set(range(len(plan.texts)))


@few
@given(class_lists(), template_lists, st.randoms(use_true_random=False))
def test_permuting_the_classes_permutes_the_classes_of_the_query_words(classes, templates, random):
    order = list(range(len(classes)))
    random.shuffle(order)
    plan, shuffled = expand(classes, templates), expand([classes[old] for old in order], templates)

    def texts_by_class(made, label):
        rows = zip(made.rows, made.query_to_class, strict=True)
        return [[made.texts[i] for i in row] for row, class_index in rows if class_index == label]

    for new, old in enumerate(order):
        assert texts_by_class(shuffled, new) == texts_by_class(plan, old)
    assert set(shuffled.texts) == set(plan.texts)


def test_expand_refuses_an_empty_list_of_classes():
    with pytest.raises(PromptError, match="classes: expected at least one class, got none"):
        expand([], ["{}"])
