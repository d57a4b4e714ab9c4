"""Boxes and captions: their files, ranks of the right answers, and accuracies."""

import json
from math import comb
from pathlib import Path

import numpy as np
import pytest
from evaluation_data import picture, write_json

from fgseg.errors import DatasetError, OutputError
from fgseg.evaluation.report import run_document
from fgseg.evaluation.requests import BenchmarkRequest, faults, open_data
from fgseg.evaluation.runner import run_task
from fgseg.evaluation.statistics import answer_accuracy, rank_of
from fgseg.evaluation.tasks.box_data import Phrased, open_boxes
from fgseg.evaluation.tasks.boxes import BoxTask
from fgseg.evaluation.tasks.retrieval import RetrievalTask, open_captions
from fgseg.scoring.resolution import whole_image

CATEGORIES = [{"id": 7, "name": "blue_circle"}, {"id": 3, "name": "red"}, {"id": 9, "name": "green"}]


def instances(root):
    """A COCO instance file of two images with three valid boxes, one crowd, and one box outside the image."""
    picture(root / "images" / "1.png", seed=1)
    picture(root / "images" / "2.png", seed=2)
    rows = [
        {"image_id": 1, "category_id": 3, "bbox": [2, 3, 10, 12]},
        {"image_id": 1, "category_id": 9, "bbox": [0, 0, 32, 24]},
        {"image_id": 2, "category_id": 7, "bbox": [-4, 5.5, 20, 60]},
        {"image_id": 2, "category_id": 7, "bbox": [40, 5, 20, 6]},
        {"image_id": 2, "category_id": 3, "bbox": [1, 1, 9, 9], "iscrowd": 1},
    ]
    images = [
        {"id": 1, "file_name": "1.png"},
        {"id": 2, "coco_url": "http://host/val/2.png"},
        {"id": 3, "file_name": "3"},
    ]
    return write_json(root / "instances.json", {"images": images, "categories": CATEGORIES, "annotations": rows})


def box_task(seg, boxes):
    return BoxTask(seg, boxes, ("{}",), whole_image(seg.defaults.resolution))


def test_classes_of_boxes_are_in_the_order_of_the_category_ids(tmp_path):
    boxes = open_boxes(instances(tmp_path), None)
    assert [entry.name for entry in boxes.classes] == ["red", "blue_circle", "green"]
    assert boxes.classes[1].synonyms == ("blue circle",)
    assert [image.answers for image in boxes.images] == [(0, 2), (1, 1)]
    assert boxes.images[0].boxes_xyxy[0] == (2, 3, 12, 15)
    assert faults(boxes) == ()


def test_boxes_are_ranked_among_the_classes_as_by_score_boxes(seg, tmp_path):
    boxes = open_boxes(instances(tmp_path), None)
    task = box_task(seg, boxes)
    outcome = run_task(task, tmp_path / "out")
    names = [entry.synonyms[0] for entry in boxes.classes]
    scores = seg.score_boxes(boxes.images[0].path, [[2, 3, 12, 15], [0, 0, 32, 24]], names).cosine
    assert outcome.rows[0]["places"] == [[0, rank_of(scores[0], 0)], [2, rank_of(scores[1], 2)]]
    cut = seg.score_boxes(boxes.images[1].path, [[0, 5.5, 16, 24]], names).cosine
    assert outcome.rows[1]["places"] == [[1, rank_of(cut[0], 1)]]
    assert (outcome.rows[1]["skipped"], outcome.summary["n_boxes_skipped"]) == (1, 1)
    table = outcome.summary["table"]
    right = sum(place == 0 for row in outcome.rows for _, place in row["places"])
    assert table["model"]["top1"]["value"] == pytest.approx(right / 3)
    assert table["model"]["top5"]["value"] == 1
    assert table["uniform random"]["top1"]["value"] == pytest.approx(1 / 3)
    assert table["most frequent class"]["top1"]["value"] == pytest.approx(1 / 3)
    json.dumps(run_document(outcome), allow_nan=False)


def test_the_figures_are_null_if_no_box_has_an_area_left(seg, tmp_path):
    document = json.loads(instances(tmp_path).read_text())
    (outside,) = (row for row in document["annotations"] if row["bbox"][0] == 40)
    boxes = open_boxes(write_json(tmp_path / "outside.json", document | {"annotations": [outside]}), None)
    outcome = run_task(box_task(seg, boxes), tmp_path / "out")
    assert (outcome.rows[0]["places"], outcome.summary["n_boxes_skipped"]) == ([], 1)
    table = run_document(outcome)["table"]
    for who in ("model", "most frequent class"):
        assert {name: cell["value"] for name, cell in table[who].items()} == dict.fromkeys(table[who])
    assert table["uniform random"]["mean of classes"]["value"] == pytest.approx(1 / 3)


def test_classes_without_a_box_are_left_out_of_the_mean_of_classes(seg, tmp_path):
    task = box_task(seg, open_boxes(instances(tmp_path), None))
    table = task.summary([{"places": [[0, 0], [0, 4], [2, 0]], "skipped": 0}])["table"]
    assert table["model"]["mean of classes"]["value"] == (1 / 2 + 1) / 2
    assert table["most frequent class"]["mean of classes"]["value"] == 1 / 2


def fgovd(root, name="1_attributes_llava.jsonl"):
    picture(root / "images" / "val" / "a.png", seed=3)
    row = {
        "img_path": "val/a.png", "bbox": [3, 4, 20, 10],
        "pos_expression": ["a red circle"], "neg_expression": ["a blue circle", "a green circle"],
    }  # fmt: skip
    (root / name).write_text("\n".join(json.dumps(one) for one in (row, row | {"bbox": [1, 1, 5, 5]})) + "\n")
    return root


def test_the_difficulty_of_fgovd_boxes_comes_from_the_file_name(tmp_path):
    for name in ("1_attributes_llava", "2_attributes", "3_attributes", "shuffle_negatives"):
        fgovd(tmp_path, f"{name}.jsonl")
    (image,) = open_boxes(tmp_path, None).images
    assert [answer.group for answer in image.answers] == [
        group for group in ("hard", "medium", "easy", "trivial") for _ in range(2)
    ]
    assert image.answers[0] == Phrased("hard", ("a red circle", "a blue circle", "a green circle"))
    assert image.boxes_xyxy[0] == (3, 4, 23, 14)


def test_fgovd_accuracy_is_that_of_score_boxes(seg, tmp_path):
    boxes = open_boxes(fgovd(tmp_path), None)
    outcome = run_task(box_task(seg, boxes), tmp_path / "out")
    texts = boxes.images[0].answers[0].texts
    scores = seg.score_boxes(boxes.images[0].path, [[3, 4, 23, 14], [1, 1, 6, 6]], texts).cosine
    assert outcome.rows[0]["places"] == [["hard", rank_of(row, 0), 3] for row in scores]
    table = outcome.summary["table"]
    assert list(table["model"]) == ["hard"]
    assert table["model"]["hard"]["asked"] == 2
    assert table["uniform random"]["hard"]["value"] == pytest.approx(1 / 3)


def test_guessing_is_computed_over_the_measured_boxes(seg, tmp_path):
    task = box_task(seg, open_boxes(fgovd(tmp_path), None))
    rows = [{"places": [["hard", 0, 2], ["hard", 1, 4]], "skipped": 0}, {"places": [["easy", 1, 5]], "skipped": 3}]
    table = task.summary(rows)["table"]
    assert {name: cell["value"] for name, cell in table["uniform random"].items()} == {"hard": 0.375, "easy": 0.2}
    assert {name: cell["value"] for name, cell in table["model"].items()} == {"hard": 0.5, "easy": 0.0}


@pytest.mark.parametrize(
    ("true", "false"), [([], ["a", "b"]), (["a"], []), (["a"], [1]), ("", ["b"]), (None, ["b"]), (["a"], "  ")]
)
def test_a_box_needs_a_true_and_a_false_caption(tmp_path, true, false):
    row = {"img_path": "a", "bbox": [1, 2, 3, 4], "pos_expression": true, "neg_expression": false}
    (tmp_path / "1_attributes.jsonl").write_text(json.dumps(row))
    with pytest.raises(DatasetError, match="line 1: expected img_path, bbox, pos_expression and neg_expression"):
        open_boxes(tmp_path / "1_attributes.jsonl", None)
    document = {
        "rows": [{"id": "0", "difficulty": "easy", "bbox_xywh": [1, 2, 3, 4], "positive": true, "negatives": false}]
    }
    write_json(tmp_path / "rows.json", document)
    with pytest.raises(DatasetError, match="expected COCO's instances or FG-OVD's rows, got something else"):
        open_boxes(tmp_path / "rows.json", None)


def test_fgovd_rows_of_a_json_file_are_read_and_images_are_found_without_a_suffix(tmp_path):
    picture(tmp_path / "images" / "000.png")
    row = {"id": "000", "difficulty": "easy", "bbox_xywh": [1, 2, 3, 4], "positive": ["a"], "negatives": ["b"]}
    write_json(tmp_path / "fgovd.json", {"rows": [row]})
    boxes = open_boxes(tmp_path, None)
    assert boxes.images[0].path.name == "000.png"
    assert boxes.images[0].answers == (Phrased("easy", ("a", "b")),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read as JSON"),
        ("[]", "expected a JSON object, got list"),
        ('{"images": []}', "expected COCO's layout .* got no list of annotations and categories"),
        ('{"rows": [[1]]}', "expected COCO's instances or FG-OVD's rows, got something else"),
    ],
)
def test_a_file_of_another_format_is_refused(tmp_path, text, message):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(DatasetError, match=message):
        open_boxes(tmp_path / "x.json", None)


def test_an_error_names_the_line_that_is_not_a_row(tmp_path):
    (tmp_path / "1_attributes.jsonl").write_text('\n{"img_path": "a"}\n')
    with pytest.raises(DatasetError, match=r"line 2: expected img_path, bbox, pos_expression and neg_expression"):
        open_boxes(tmp_path / "1_attributes.jsonl", None)


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_only_a_line_feed_ends_a_line_of_json(tmp_path, ending):
    texts = [
        "one\u2028two",
        "three\u0085four",
        "five",
    ]  # str.splitlines would split at both, and JSON allows them in a string
    rows = [
        {"img_path": name, "bbox": [1, 2, 3, 4], "pos_expression": texts[:1], "neg_expression": texts[1:]}
        for name in ("a.png", "b.png")
    ]
    text = "".join(json.dumps(row, ensure_ascii=False) + ending for row in rows)
    (tmp_path / "1_attributes.jsonl").write_bytes(text.encode())
    boxes = open_boxes(tmp_path / "1_attributes.jsonl", None)
    assert [image.name for image in boxes.images] == ["a.png", "b.png"]
    assert boxes.images[1].answers == (Phrased("hard", tuple(texts)),)


def test_a_second_image_of_one_id_is_a_fault_and_the_first_is_measured(tmp_path):
    path = instances(tmp_path)
    document = json.loads(path.read_text())
    document["images"] += document["images"][:1]
    boxes = open_boxes(write_json(path, document), None)
    assert [image.name for image in boxes.images] == ["1", "2"]
    (fault,) = faults(boxes)
    assert "instances.json: image '1.png': expected each image id once, got id 1 again; it is left out" in fault


def test_every_box_that_is_left_out_is_counted_with_its_reason(seg, tmp_path):
    path = instances(tmp_path)
    document = json.loads(path.read_text())
    document["annotations"] += [
        {"id": 11, "image_id": 1, "category_id": 3, "bbox": [1, 1, None, 2]},
        {"id": 12, "image_id": 1, "category_id": 3, "bbox": [1, 1, 1e300, 2]},
        {"id": 13, "image_id": 1, "category_id": 8, "bbox": [1, 1, 2, 2]},
        {"id": 14, "image_id": 5, "category_id": 3, "bbox": [1, 1, 2, 2]},
        {"id": 15, "image_id": 1, "category_id": 3, "bbox": [1, 1, 2, 2], "iscrowd": "no"},
        {"id": 16, "image_id": 1, "category_id": 3},
        {"id": 17, "image_id": 1, "category_id": 3, "bbox": [1, 1, 2, 2], "iscrowd": True},
        17,
    ]
    boxes = open_boxes(write_json(path, document), None)
    assert [len(image.boxes_xyxy) for image in boxes.images] == [2, 2]
    assert boxes.skipped == {"crowds": 2, "faults": 7}
    counts, *lines = faults(boxes)
    assert counts.endswith(
        "7 rows are left out: 3 where a bbox of four numbers, x, y, width and height was expected, "
        "1 where the id of an image that can be used was expected, 1 where a JSON object was expected, "
        "1 where the id of a category that can be used was expected, 1 where an iscrowd of 0 or 1 was expected"
    )
    assert any(
        "annotation 11 of image '1.png': expected a bbox" in line and "[1, 1, None, 2]" in line for line in lines
    )
    outcome = run_task(box_task(seg, boxes), tmp_path / "out")
    assert outcome.summary["boxes_skipped"] == {"crowds": 2, "faults": 7, "no area in the image": 1}


def test_missing_and_broken_images_are_faults(tmp_path):
    path = instances(tmp_path)
    (tmp_path / "images" / "1.png").unlink()
    (tmp_path / "images" / "2.png").write_text("no picture")
    first, second = faults(open_boxes(path, None))
    assert "1.png: no such image; --root names the folder" in first
    assert "2.png" in second


def test_on_a_tie_the_lower_index_has_the_better_rank():
    scores = np.array([0.2, 0.9, 0.2, 0.9], np.float32)
    assert [rank_of(scores, index) for index in range(4)] == [2, 0, 3, 1]


def test_the_accuracy_counts_answers_and_not_images():
    made = answer_accuracy([1, 3], [1, 9])
    assert made["value"] == 0.4
    assert made["asked"] == 10
    assert made["interval"][0] < 0.4 < made["interval"][1]
    assert np.isnan(answer_accuracy([0], [0])["value"])


# --- retrieval


def captions(root):
    images = [{"id": index, "file_name": f"{index}.png"} for index in range(4)]
    texts = ["a red circle", "a blue square", "a green star", "a white ring", "a black heart"]
    for index in range(4):
        picture(root / f"{index}.png", seed=index)
    rows = [{"image_id": index % 4, "caption": f" {text}\n"} for index, text in enumerate(texts)]
    return write_json(root / "captions.json", {"images": images, "annotations": rows})


@pytest.mark.parametrize("route", ["short", "long"])
def test_recall_is_that_of_ranking_all_images_and_captions(seg, tmp_path, route):
    loaded = open_captions(captions(tmp_path), None)
    outcome = run_task(RetrievalTask(seg, loaded, route), tmp_path / "out")
    texts = [text for image in loaded.images for text in image.captions]
    owners = [i for i, image in enumerate(loaded.images) for _ in image.captions]
    cosine = seg.rank([image.path for image in loaded.images], texts, route=route).cosine
    top = cosine.argmax(1)
    expected = np.mean([owners[top[i]] == i for i in range(4)])
    table = outcome.summary["table"]
    assert table["model"]["image to text @1"]["value"] == pytest.approx(expected)
    expected = np.mean([cosine[:, column].argmax() == owner for column, owner in enumerate(owners)])
    assert table["model"]["text to image @1"]["value"] == pytest.approx(expected)
    assert table["model"]["text to image @5"]["value"] == 1
    chance = np.mean([1 - comb(5 - len(image.captions), 1) / 5 for image in loaded.images])
    assert table["uniform random"]["image to text @1"]["value"] == pytest.approx(chance)
    again = run_task(RetrievalTask(seg, loaded, route), tmp_path / "out")
    assert (again.resumed, again.summary) == (4, outcome.summary)


def test_errors_name_captions_of_another_format_and_missing_images(tmp_path):
    loaded = open_captions(captions(tmp_path), None)
    assert faults(loaded) == ()
    (tmp_path / "0.png").unlink()
    (fault,) = faults(loaded)
    assert "0.png: no such image" in fault
    with pytest.raises(DatasetError, match="expected images with id and file_name"):
        open_captions(Path(write_json(tmp_path / "x.json", {"images": []})), None)
    document = {"images": [{"id": 1, "file_name": "1.png"}], "annotations": [{"image_id": 1, "caption": None}]}
    with pytest.raises(DatasetError, match="a caption that is no text, None"):
        open_captions(Path(write_json(tmp_path / "x.json", document)), None)


@pytest.mark.parametrize(("task", "make"), [("boxes", instances), ("retrieval", captions)])
def test_a_limit_keeps_the_first_images_of_a_file(tmp_path, task, make):
    path = make(tmp_path)
    whole, first = (open_data(BenchmarkRequest(task=task, data=(str(path),), limit=limit))[0] for limit in (None, 1))
    assert type(first) is type(whole)
    assert (first.name, first.images) == (whole.name, whole.images[:1])
    assert (first.full_size, whole.full_size) == (len(whole.images), None)
    (enough,) = open_data(BenchmarkRequest(task=task, data=(str(path),), limit=len(whole.images)))
    assert enough == whole
    assert len(whole.images) > 1


def test_rows_are_refused_if_a_caption_moved_to_another_image(seg, tmp_path):
    path = captions(tmp_path)
    run_task(RetrievalTask(seg, open_captions(path, None), "short"), tmp_path / "out")
    document = json.loads(path.read_text())
    # The same captions in the same order: the second of image 0 becomes the first of image 1.
    document["annotations"] = [
        row | {"image_id": 1} if row["caption"] == " a black heart\n" else row
        for row in sorted(document["annotations"], key=lambda row: row["image_id"])
    ]
    write_json(path, document)
    with pytest.raises(OutputError, match=r"data\.captions_sha256 was"):
        run_task(RetrievalTask(seg, open_captions(path, None), "short"), tmp_path / "out")


def test_rows_are_refused_if_the_class_of_a_box_changed(seg, tmp_path):
    path = instances(tmp_path)
    run_task(box_task(seg, open_boxes(path, None)), tmp_path / "out")
    document = json.loads(path.read_text())
    first, other = document["annotations"][0], document["categories"]
    first["category_id"] = next(row["id"] for row in other if row["id"] != first["category_id"])
    write_json(path, document)
    with pytest.raises(OutputError, match=r"data\.answers_sha256 was"):
        run_task(box_task(seg, open_boxes(path, None)), tmp_path / "out")


def test_the_interval_of_an_accuracy_counts_the_answers_of_each_resample():
    """With 1 of 1 and 0 of 3 right, a resample holds the first image twice, both images, or the second twice."""
    made = answer_accuracy([1, 0], [1, 3])
    assert made["interval"] == [0.0, 1.0]
    many = answer_accuracy([1, 0] * 50, [1, 3] * 50)
    assert many["value"] == 0.25
    assert 0.15 < many["interval"][0] < 0.2 < 0.3 < many["interval"][1] < 0.4
