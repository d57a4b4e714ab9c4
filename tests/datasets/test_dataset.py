"""Data sets and the choice of some of their classes."""

from pathlib import Path

import pytest
from dataset_folders import small_copy

from fgseg.datasets.dataset import Dataset
from fgseg.datasets.faults import preflight
from fgseg.datasets.opening import open_dataset
from fgseg.errors import DatasetError
from fgseg.prompts.classes import PromptClass


def test_some_of_the_classes_leave_the_other_pixels_ignored(tmp_path):
    small_copy(tmp_path, "voc21")
    data = open_dataset("voc21", tmp_path)
    some = data.select_classes(["bicycle", "Background"])
    assert [entry.name for entry in some.classes] == ["background", "bicycle"]
    assert (some.has_background, some.ignore) == (True, 255)
    assert some.items[0].read_labels().tolist() == [[0, 255, 1], [255, 255, 255]]
    assert preflight(some) == ()
    others = data.select_classes(["aeroplane"])
    assert (others.has_background, others.items[0].read_labels().tolist()) == (False, [[255, 0, 255], [255, 255, 0]])


def test_names_of_no_class_are_refused(tmp_path):
    small_copy(tmp_path, "voc21")
    data = open_dataset("voc21", tmp_path)
    with pytest.raises(DatasetError, match="voc21: expected names of its classes, got zebra; it has background, aero"):
        data.select_classes(["zebra", "cat"])
    with pytest.raises(DatasetError, match="got none"):
        data.select_classes([])


def test_an_ignored_label_that_is_a_class_is_refused():
    with pytest.raises(DatasetError, match="expected an ignored label outside the classes 0 to 0, got 0"):
        Dataset("x", Path("x"), (PromptClass("cat", ("cat",)),), (), ignore=0)


def test_a_class_name_selects_its_own_class_even_if_it_is_a_query_word_of_another():
    classes = (PromptClass("counter", ("counter",)), PromptClass("buffet", ("buffet", "counter")))
    for order in (classes, classes[::-1]):
        data = Dataset("ade", Path("ade"), order, ())
        assert [entry.name for entry in data.select_classes(["counter"]).classes] == ["counter"]
    classes = (PromptClass("a", ("shared",)), PromptClass("b", ("shared",)))
    assert [entry.name for entry in Dataset("x", Path("x"), classes, ()).select_classes(["shared"]).classes] == ["a"]
