"""Class files and template files."""

import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from fgseg.errors import PromptError
from fgseg.prompts.classes import PromptClass
from fgseg.prompts.files import read_class_file, read_template_file
from fgseg.prompts.templates import expand, templates_named
from fgseg.segmentation.summary import classes_json


def write(folder: Path, name: str, content: str | bytes) -> Path:
    file = folder / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


def assert_refused_file(file: Path, match: str, read=read_class_file) -> None:
    with pytest.raises(PromptError, match=match) as caught:
        read(file)
    assert file.name in str(caught.value)


def test_a_text_file_has_one_class_per_line_in_label_order(tmp_path):
    text = "# label 0 is the background\nsky, wall\n#ff0000\n  # a note\n#\nperson,man\na dog\\, sitting \n"
    text += "\n  \n# end\n"
    classes = read_class_file(write(tmp_path, "classes.txt", text))
    assert [entry.synonyms for entry in classes] == [
        ("sky", "wall"),
        ("#ff0000",),
        ("person", "man"),
        ("a dog, sitting",),
    ]


@pytest.mark.parametrize(
    "content",
    [b"\xef\xbb\xbfred\r\nd\xc3\xa9j\xc3\xa0\r\n", b"red\rd\xc3\xa9j\xc3\xa0", b"red\nd\xc3\xa9j\xc3\xa0"],
)
def test_a_byte_order_mark_and_any_line_end_are_read(tmp_path, content):
    assert [entry.name for entry in read_class_file(write(tmp_path, "c.TXT", content))] == ["red", "déjà"]


def test_a_thousand_classes_keep_their_order(tmp_path):
    names = [f"thing {index}" for index in range(1000)]
    for name, text in (("c.txt", "\n".join(names)), ("c.json", json.dumps([{"name": n} for n in names]))):
        classes = read_class_file(str(write(tmp_path, name, text)))
        assert [entry.name for entry in classes] == names
    assert expand(classes, ["{}"]).query_to_class == tuple(range(1000))


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("", "expected at least one class, got none"),
        ("\n\n# nothing\n", "expected at least one class, got none"),
        ("red\n\n\nblue\n", "line 2: expected a class, got a blank line, which would shift labels"),
        ("\nred\n", "line 1: expected a class, got a blank line"),
        ("red\na,,b\n", "line 2: expected a word on each side of a comma, got 'a,,b'"),
        ("red\n# x\nred\n", r"line 1 and .*line 3: expected each class once, got 'red' twice"),
        ("red\nblue,Red\n", r"line 1 and .*line 2: expected a query word in one class, got 'Red' in both"),
        ("red\nman,man\n", "line 2: synonyms: expected each word once, got 'man' twice"),
        ("sky; wall\n", "line 1: expected commas between synonyms, got ';' in 'sky; wall'"),
        ("red\nan\x0bother\n", "line 2: expected one line"),
        (b"red\nd\xe9j\xe0\n", "line 2: expected UTF-8 text, got byte 0xe9; save the file as UTF-8"),
        (b"\xef\xbb\xbf\nd\xe9j\xe0\n", "line 2: expected UTF-8 text, got byte 0xe9"),
        ("red\n".encode("utf-16"), "line 1: expected UTF-8 text, got byte 0xff"),
    ],
)
def test_a_text_file_that_would_shift_or_lose_a_class_is_refused_with_the_line(tmp_path, content, match):
    assert_refused_file(write(tmp_path, "c.txt", content), match)


@pytest.mark.parametrize(
    "text",
    [
        "0: cat\n1: dog, puppy\n2: a dog\\, sitting\n",
        "0 cat\n1 dog, puppy\n2  a dog\\, sitting\n",
        "0\tcat\n1\tdog, puppy\n2\ta dog\\, sitting\n",
        "0. cat\n1. dog, puppy\n2. a dog\\, sitting\n",
        "# from 0\n0) cat\n1)dog, puppy\n2 - a dog\\, sitting\n\n",
        "0,cat\n1,dog,puppy\n2, a dog\\, sitting\n",
        "[0] cat\n[1] dog, puppy\n2 = a dog\\, sitting\n",
    ],
)
def test_numbers_that_count_from_0_are_left_out(tmp_path, text):
    classes = read_class_file(write(tmp_path, "c.txt", text))
    assert [entry.synonyms for entry in classes] == [("cat",), ("dog", "puppy"), ("a dog, sitting",)]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("1: cat\n2: dog\n", 1),
        ("1 cat\n2 dog\n", 1),
        ("0: cat\n2: dog\n", 2),
        ("0: cat\ndog\n", 2),
        ("cat\n1: dog\n", 1),
        ("0 cat\n0 dog\n", 2),
        ("64 128 64\tAnimal\n192 0 128\tArchway\n", 1),
    ],
)
def test_other_numbers_are_refused_and_never_words(tmp_path, text, line):
    match = f"line {line}: expected number {line - 1} in a file of numbered classes, which begins with 0, got"
    assert_refused_file(write(tmp_path, "c.txt", text), match)


def test_names_that_begin_with_a_number_are_names_among_others(tmp_path):
    names = ["car", "2 door car", "16:9 screen", "3d printer", "7-inch nail", "1.5 l bottle", "24/7 store", "#1 mug"]
    classes = read_class_file(write(tmp_path, "c.txt", "\n".join(names)))
    assert [entry.name for entry in classes] == names


@pytest.mark.parametrize("text", ["cat: 0\ndog: 1\n", "cat=0\ndog=1\n", "background:0,0,0::\ncat:128,0,0::\n"])
def test_numbers_after_the_names_are_refused(tmp_path, text):
    assert_refused_file(
        write(tmp_path, "c.txt", text), "line 1: expected a name without numbers, got .* write one class"
    )


def test_tabs_between_words_are_refused(tmp_path):
    assert_refused_file(
        write(tmp_path, "c.txt", "cat\tkitten\n"), "line 1: expected commas between synonyms, got a tab"
    )
    assert_refused_file(write(tmp_path, "c.txt", "0\tcat\tkitten\n"), "line 1: expected commas .* got a tab")


CVAT = [
    {"name": "cat", "id": 71, "color": "#33ddff", "type": "any", "attributes": []},
    {"name": "dog", "id": 5, "color": "", "type": "polygon", "attributes": [{"name": "fur", "values": ["white"]}]},
]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.json", '["cat", "dog"]'),
        ("c.json", '["0: cat", "1: dog"]'),
        ("c.json", '[{"name": "cat"}, "dog"]'),
        ("c.json", '{"1": "dog", "0": "cat"}'),
        ("c.json", json.dumps([entry | {"color": ""} for entry in CVAT])),
        ("c.json", '{"unlabelled": 255, "classes": [{"index": 0, "name": "cat"}, {"index": 1, "name": "dog"}]}'),
        ("c.yaml", "- cat\n- dog\n"),
        ("c.yaml", "0: cat\n1: dog\n"),
        ("data.yaml", "path: ../pets\ntrain: images/train\nval: images/val\nnc: 2\nnames: [cat, dog]\n"),
        ("data.yml", "train: a\nval: b\nnames:\n  0: cat\n  1: dog\n"),
    ],
)
def test_lists_of_other_tools_are_read(tmp_path, name, text):
    assert read_class_file(write(tmp_path, name, text)) == (PromptClass("cat", ("cat",)), PromptClass("dog", ("dog",)))


def test_colors_of_cvat_are_read(tmp_path):
    classes = read_class_file(write(tmp_path, "c.json", json.dumps(CVAT)))
    assert [entry.color for entry in classes] == [(0x33, 0xDD, 0xFF), None]


def test_the_classes_json_of_a_result_is_a_class_file(tmp_path):
    classes = (PromptClass("cat", ("cat", "a cat, sitting"), (1, 2, 3)), PromptClass("dog", ("dog",), (4, 5, 6)))
    assert read_class_file(write(tmp_path, "classes.json", classes_json(classes))) == classes


KEYS = st.sampled_from(["name", "prompts", "color", "classes", "names", "nc", "index", "attributes", "0", "1"])

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS | st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


@given(value=VALUES, suffix=st.sampled_from([".json", ".yaml"]))
@settings(deadline=None, max_examples=100)
def test_any_document_is_a_list_of_classes_or_refused(tmp_path_factory, value, suffix):
    file = write(tmp_path_factory.getbasetemp(), f"any{suffix}", json.dumps(value))
    with suppress(PromptError):
        assert all(isinstance(entry, PromptClass) for entry in read_class_file(file))


@given(text=st.text(alphabet="01 :\t,;.)=-a\\\n#[]", max_size=20))
@settings(deadline=None, max_examples=100)
def test_any_text_is_a_list_of_classes_or_refused(tmp_path_factory, text):
    file = write(tmp_path_factory.getbasetemp(), "any.txt", text)
    with suppress(PromptError):
        assert all(isinstance(entry, PromptClass) for entry in read_class_file(file))


def test_class_files_that_are_missing_or_of_another_kind_are_refused(tmp_path):
    assert_refused_file(tmp_path / "no.txt", r"cannot be read \(No such file or directory\); check the path")
    (tmp_path / "folder.txt").mkdir()
    assert_refused_file(tmp_path / "folder.txt", r"cannot be read \(Is a directory\)")
    assert_refused_file(tmp_path / "c.csv", r"expected a class file \(.txt, .json, .yaml, .yml\), got suffix '.csv'")
    assert_refused_file(tmp_path / "classes", "got suffix ''")


YAML = """
- name: sky
- name: person
  prompts: ["person, standing", man]
  color: "#FF8000"
- {name: dog, color: [0, 1, 255]}
"""


@pytest.mark.parametrize("suffix", [".json", ".yaml", ".yml"])
@pytest.mark.parametrize("wrapped", [False, True])
def test_json_and_yaml_files_have_names_prompts_and_colors(tmp_path, suffix, wrapped):
    entries = [
        {"name": " sky "},
        {"name": "person", "prompts": ["person, standing", "man "], "color": "#FF8000"},
        {"name": "dog", "color": [0, 1, 255]},
    ]
    text = json.dumps({"classes": entries} if wrapped else entries)
    if suffix != ".json":
        text = "classes:" + YAML if wrapped else YAML
    assert read_class_file(write(tmp_path, "c" + suffix, "\ufeff" + text)) == (
        PromptClass("sky", ("sky",)),
        PromptClass("person", ("person, standing", "man"), (255, 128, 0)),
        PromptClass("dog", ("dog",), (0, 1, 255)),
    )


@pytest.mark.parametrize("name", ["c.json", "c.yaml"])
@pytest.mark.parametrize("words", [{"mug": ["white"], "cup, saucer": "a plate, blue"}, {"classes": {"mug": ["white"]}}])
def test_an_object_of_names_and_words_is_a_class_file(tmp_path, name, words):
    read = read_class_file(write(tmp_path, name, json.dumps(words)))  # JSON is YAML
    assert read[0] == PromptClass("mug", ("white",))
    assert read[1:] in ((), (PromptClass("cup, saucer", ("a plate, blue",)),))  # a comma means nothing here


@pytest.mark.parametrize("entries", [["red", "dark blue"], {"0": "red", "1": "dark blue"}])
@pytest.mark.parametrize("name", ["c.json", "c.yaml", "c.txt"])
def test_a_plain_list_of_names_is_a_class_file(tmp_path, name, entries):
    text = "\n".join(["red", "dark blue"]) if name == "c.txt" else json.dumps(entries)
    assert [entry.name for entry in read_class_file(write(tmp_path, name, text))] == ["red", "dark blue"]


@pytest.mark.parametrize(
    ("document", "match"),
    [
        ([], "expected at least one class, got none"),
        ({"classes": []}, "expected at least one class, got none"),
        ({}, r"expected a list of classes or {\"classes\": \[...\]}, got dict {}"),
        ("red", "expected a list of classes .* got str 'red'"),
        ({"classes": [], "colour": 1, "x": 2}, "unknown key colour, x; the known ones are classes, unlabelled"),
        ([["red"]], r"entry 1: expected a class, got list \['red'\]; write {\"name\": \"red\"}"),
        (
            ["red", "cup, mug"],
            r'entry 2: expected one name, got \'cup, mug\'; write {"name": "cup", "prompts": \["cup", "mug"\]}',
        ),
        (
            {"mug": "white", "cup": 1},
            r"'cup': expected words, or a list of words, got int 1; .* list of classes in label order: "
            r'\[{"name": "cup"}, ...\]',
        ),
        ({"cat": 0, "dog": 1}, "'cat': expected words, or a list of words, got int 0"),
        ({"cat": []}, "'cat': expected words"),
        ({"cat": None}, "'cat': expected words"),
        ({"cat": [255, 0, 0]}, "'cat': expected words"),
        ({"cat": {"prompts": ["cat"]}}, "'cat': expected words"),
        ({"cat": "0", "dog": "1"}, "'cat': expected words, or a list of words, got str '0'"),
        ({"cat": "#ff0000"}, "'cat': expected words"),
        ({"name": "cat", "color": [1, 2, 3]}, r"expected a list of classes, got one class; put it into brackets"),
        ({"cat": ["tabby", "tabby"]}, "'cat': synonyms: expected each word once"),
        ({"cat": "pet", "dog": ["pet"]}, "'cat' and .*'dog': expected a query word in one class"),
        ({"0": "cat", "2": "dog"}, "expected the numbers from 0 to 1 as keys, got 0, 2; write a list of names"),
        ({"1": "cat"}, "expected the numbers from 0 to 0 as keys, got 1"),
        ({"0": ["cat", "kitten"]}, r"\[0\]: expected a class, got list"),
        ({"names": "cat"}, r"names: expected a list of names, got str 'cat'; write names: \[cat, dog\]"),
        ({"nc": 3, "names": ["cat", "dog"]}, "expected as many names as nc says, 3, got 2; correct one"),
        ({"nc": 1, "names": {"1": "cat"}}, "names: expected the numbers from 0 to 0 as keys, got 1"),
        ({"nc": 1, "names": [5]}, r"names\[0\]: expected a class, got int 5"),
        ([{"name": "a", "index": 1}], "entry 1, index: expected 0, got int 1; list classes in label order"),
        ([{"name": "a", "id": 1, "supercategory": "b"}], "entry 1: unknown key id, supercategory"),
        (["0: cat", "2: dog"], "entry 2: expected number 1 in a file of numbered classes"),
        (
            [{"name": "a"}, {"name": "b", "colour": 1}],
            "entry 2: unknown key colour; the known ones are name, prompts, color, index",
        ),
        ([{"prompts": ["a"]}], "entry 1: expected a name, got only prompts"),
        ([{}], "entry 1: expected a name, got only nothing"),
        ([{"name": 3}], "entry 1, name: expected a string, got int 3; write it in quotes"),
        ([{"name": " "}], "entry 1, name: expected a word or phrase, got an empty string"),
        ([{"name": "a", "prompts": "a"}], "entry 1, prompts: expected a list of strings, got str 'a'"),
        ([{"name": "a", "prompts": []}], "entry 1: synonyms: expected at least one query word"),
        ([{"name": "a", "prompts": ["b", ""]}], r"entry 1, prompts\[1\]: expected a word or phrase"),
        ([{"name": "a", "prompts": ["b", "B"]}], "entry 1: synonyms: expected each word once"),
        ([{"name": "a"}, {"name": "A"}], "entry 1 and .*entry 2: expected each class once"),
        (
            [{"name": "a"}, {"name": "b", "prompts": ["a"]}],
            "entry 1 and .*entry 2: expected a query word in one class",
        ),
        *(
            ([{"name": "a", "color": color}], 'entry 1, color: expected .r, g, b. from 0 to 255 or "#rrggbb"')
            for color in (
                None,
                "red",
                "#fff",
                "#ff00000",
                "ff0000",
                [1, 2],
                [1, 2, 256],
                [1, 2, 3.0],
                [1, 2, True],
            )
        ),
    ],
)
def test_json_and_yaml_files_of_another_form_are_refused_with_the_entry(tmp_path, document, match):
    for suffix in (".json", ".yaml"):  # JSON is YAML
        assert_refused_file(write(tmp_path, "c" + suffix, json.dumps(document)), match)


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("c.json", '[\n{"name": "a"}\nb]', "line 3: not JSON"),
        ("c.json", "", "line 1: not JSON"),
        ("c.json", "[" * 100_000, r"not a list of classes \(maximum recursion|not JSON"),
        ("c.yaml", "", r"expected a list of classes .* got NoneType"),
        ("c.yaml", "- name: a\n- name: 'b\n", "line 3: not YAML"),
        ("c.yaml", "- name: a\n  name : : b\n", "line 2: not YAML"),
        ("c.yaml", "- name: \x07\n", "not YAML .special characters"),
        ("c.yaml", "- name: no\n", "entry 1, name: expected a string, got bool False; write it in quotes"),
        ("c.yaml", "- name: 2020-99-99\n", "not a list of classes .* put odd names in quotes"),
        ("c.yaml", "- name: !!bool maybe\n", "not a list of classes .* put odd names in quotes"),
        ("c.yaml", "- name: !!timestamp abc\n", "not a list of classes .* put odd names in quotes"),
        ("c.json", '[{"name": "a", "prompts": ["red\\ud83d"]}]', "expected valid Unicode, got 'red.ud83d'"),
        ("c.yaml", "- 1: a\n", "entry 1: unknown key 1; the known ones"),
        (
            "c.yaml",
            "- name: a\n  color: #ff0000\n",
            "entry 1, color: expected .* got NoneType None; .* YAML needs the quotes",
        ),
        ("c.yaml", "- &a [x, x]\n- [*a, *a]\n", "line 2: not YAML .an alias; write the words out"),
        ("c.json", "[" * 900 + "]" * 900, "not a list of classes|not JSON|expected a class"),
        ("c.yaml", "- " + hex(10**5000), "not a list of classes .* write names"),
        ("c.yaml", "- !!python/object/apply:os.getcwd []\n", "line 1: not YAML"),
    ],
)
def test_files_that_are_not_json_or_yaml_are_refused_with_the_line(tmp_path, name, content, match):
    assert_refused_file(write(tmp_path, name, content), match)


def test_two_classes_of_a_file_may_share_a_query_word_if_that_is_allowed(tmp_path):
    file = write(tmp_path, "c.txt", "sky, bed\nbed\n")
    assert [entry.synonyms for entry in read_class_file(file, shared_synonyms="allow")] == [
        ("sky", "bed"),
        ("bed",),
    ]


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("# none\n\n", "expected at least one template, got none"),
        ("a {}\n\nphoto\n", "line 3: expected one {} where the word goes, got str 'photo'"),
        ("a {}\n# again\na {}\n", "line 1 and .*line 3: expected each template once"),
        (b"a {}\n\xff{}\n", "line 2: expected UTF-8 text, got byte 0xff"),
    ],
)
def test_template_files_are_refused_with_the_line(tmp_path, content, match):
    assert_refused_file(write(tmp_path, "t.txt", content), match, read=read_template_file)


def test_a_name_that_no_file_can_have_is_refused():
    assert_refused_file(Path("a\0.txt"), "cannot be read", read=read_template_file)


def test_a_missing_template_file_is_refused(tmp_path):
    assert_refused_file(tmp_path / "t.txt", "cannot be read", read=read_template_file)
    assert_refused_file(tmp_path / "t.txt", "there is no such file", read=templates_named)
