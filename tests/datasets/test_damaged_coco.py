"""Annotation files that are damaged anywhere: a data set or an error of ours, within the memory of the image."""

import json
import subprocess
import sys
from contextlib import suppress

import numpy as np
import pytest
from dataset_folders import CATEGORIES, IMAGE, coco_folder, put_image, put_png
from hypothesis import given, settings, strategies as st

from fgseg.datasets.faults import preflight
from fgseg.datasets.opening import open_dataset
from fgseg.errors import FgsegError
from fgseg.evaluation.tasks.box_data import open_boxes
from fgseg.images.reading import MAX_PIXELS

SQUARE = [1, 1, 4, 1, 4, 3, 1, 3]
BOX = {"image_id": 7, "iscrowd": 0, "bbox": [1, 1, 3, 2], "area": 6}
INSTANCES = {
    "images": [IMAGE, IMAGE | {"id": 8, "file_name": "b.jpg"}],
    "categories": CATEGORIES,
    "annotations": [
        {"id": 1, "category_id": 3, **BOX, "segmentation": [SQUARE, [0, 0, 1, 0, 1, 1]]},
        {"id": 2, "category_id": 90, **BOX, "segmentation": {"size": [4, 5], "counts": [10, 1, 9]}},
        {"id": 3, "category_id": 3, **BOX, "image_id": 8, "segmentation": {"size": [4, 5], "counts": "01c0"}},
    ],
}
PANOPTIC = {
    "images": [IMAGE],
    "categories": CATEGORIES,
    "annotations": [{"image_id": 7, "file_name": "a.png", "segments_info": [{"id": 0, "category_id": 3}]}],
}

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-9, 9)
    | st.integers()
    | st.floats()
    | st.sampled_from([10**400, 1e308, -(2.0**63), 2**31, MAX_PIXELS, 7, 3])
    | st.sampled_from(
        ["", "a.jpg", "a.png", "/", "..", "a\0b", "\ud83d", "x" * 300, "o" * 50, "01c0", "7", "background"]
    )
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def places_in(value, place=()):
    """The paths of all values inside a JSON value."""
    yield place
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in entries:
        yield from places_in(inner, (*place, key))


@st.composite
def damaged(draw, document):
    """The document with up to three of its values replaced, removed or repeated."""
    changed = json.loads(json.dumps(document))
    for _ in range(draw(st.integers(1, 3))):
        *parents, key = draw(st.sampled_from([place for place in places_in(changed) if place]))
        holder = changed
        for parent in parents:
            holder = holder[parent]
        change = draw(st.sampled_from(["replace", "remove", "repeat"]))
        if change == "replace":
            holder[key] = draw(VALUES)
        elif change == "remove":
            del holder[key]
        elif isinstance(holder, list):
            holder.append(holder[key])
        if not any(place for place in places_in(changed)):
            break
    return changed


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("coco")
    for name in ("a.jpg", "b.jpg"):
        put_image(root / "images" / name, (4, 5))
    put_png(root / "panoptic" / "a.png", np.zeros((4, 5, 3), np.uint8))
    return root


def read_all(path):
    """Everything that a benchmark reads of a set whose faults are left out."""
    with suppress(FgsegError):
        data = open_dataset(path)
        assert all("\n" not in fault for fault in preflight(data))
        for item in data.items:
            item.source.meaning().encode(errors="surrogatepass")
            with suppress(FgsegError):
                if item.source.image_hw() == item.read_image().shape[:2]:
                    labels = item.read_labels()
                    assert labels.shape == (4, 5)
                    assert set(labels.ravel().tolist()) <= {*range(len(data.classes)), data.ignore}
    with suppress(FgsegError):
        assert all("\n" not in fault for fault in open_boxes(path, None).faults())


@pytest.mark.parametrize("document", [INSTANCES, PANOPTIC], ids=["instances", "panoptic"])
@given(data=st.data())
@settings(deadline=None, max_examples=150)
def test_a_file_damaged_anywhere_is_a_data_set_or_an_error_of_ours(folder, document, data):
    path = folder / "damaged.json"
    path.write_text(json.dumps(data.draw(damaged(document))))
    read_all(path)


DEEP = "[" * 700 + "]" * 700


@pytest.mark.parametrize(
    ("document", "value"),
    [
        (INSTANCES, '"01c0"'), (INSTANCES, '"counts": "01c0"'), (INSTANCES, '"a.jpg"'), (INSTANCES, '"car"'),
        (INSTANCES, '"category_id": 3'), (PANOPTIC, '"id": 0'), (PANOPTIC, '"a.png"'),
    ],
)  # fmt: skip
def test_lists_in_lists_are_a_fault(folder, document, value):
    text = json.dumps(document)
    assert value in text
    key = value.partition(": ")[0] + ": " if ": " in value else ""
    (folder / "deep.json").write_text(text.replace(value, key + DEEP))
    read_all(folder / "deep.json")


LISTED = {
    "name": "pets",
    "ignore_index": 9,
    "classes": [
        {"id": 0, "name": "background"},
        {"id": 3, "name": "cat", "prompt": "a cat"},
        {"id": 9, "name": "void"},
    ],
    "items": [{"id": "a"}, {"id": "b"}],
}
RUN = {"image": "images/a.jpg", "classes": [{"name": "cat", "prompts": ["cat"]}, {"name": "dog", "prompts": ["dog"]}]}


@pytest.mark.parametrize(("name", "document"), [("dataset.json", LISTED), ("run.json", RUN)])
@given(data=st.data())
@settings(deadline=None, max_examples=60)
def test_other_files_damaged_anywhere_are_a_data_set_or_an_error_of_ours(folder, name, document, data):
    here = folder / name.partition(".")[0]
    for file in ("labels.png", "labels/a.png"):
        put_png(here / file, np.zeros((4, 5), np.uint8))
    put_image(here / "images" / "a.jpg", (4, 5))
    (here / name).write_text(json.dumps(data.draw(damaged(document))))
    read_all(here)


def test_the_sound_files_have_no_fault(folder):
    for document in (INSTANCES, PANOPTIC):
        (folder / "sound.json").write_text(json.dumps(document))
        assert preflight(open_dataset(folder / "sound.json")) == ()


def killers():
    """Segmentations that took all memory or the process: one value is enough."""
    yield from (
        [[1, 1, 3, 1, wrong, 3, 1, 3]] for wrong in (None, float("nan"), float("inf"), 1e9, -1e18, 2**31, 10**400)
    )
    yield [[0, 0, 15_000, 20] * 100_000]
    yield {"size": [20, 15_000], "counts": [2**62, -(2**62), 300_000]}
    yield {"size": [20, 15_000], "counts": "o" * 200_000 + "0"}
    yield {"size": [10**9, 10**9], "counts": [10**18]}
    yield [[1, 1, 3, 3]]


SCRIPT = """
import resource, sys
from pathlib import Path
from fgseg.datasets.opening import open_dataset
open_dataset(sys.argv[1]).items[0].read_labels()  # everything is imported
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 150 * 2**20,) * 2)
data = open_dataset(sys.argv[2])
print(len(data.annotation_faults), data.annotations_left_out, int(data.items[0].read_labels().max()))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits the address space")
def test_no_value_takes_more_memory_than_the_image_needs(tmp_path):
    image = IMAGE | {"height": 20, "width": 15_000}
    small = coco_folder(tmp_path / "small", [{"id": 1, "category_id": 3, "image_id": 7, "segmentation": [SQUARE]}])
    wrong = [{"id": 1, "category_id": 3, "image_id": 7, "segmentation": shape} for shape in killers()]
    # The run lengths of 700 masks as wide as the image would take 168 MB if they were held together.
    wide = [[0, 0, 15_000, 0, 15_000, 10, 0, 10]] * 700 + [[0, 0, 15_000, 20] * 5]
    sound = [{"id": 2, "category_id": 90, "image_id": 7, "segmentation": [ring]} for ring in wide]
    folder = coco_folder(tmp_path / "large", [*wrong, *sound], image=image)
    put_image(folder / "images" / "a.jpg", (20, 15_000))
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(small), str(folder)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.returncode, done.stdout.split()) == (0, [str(len(wrong)), str(len(wrong)), "2"]), done.stderr
