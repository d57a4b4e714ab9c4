"""The files of a run: JSON, the table of classes, the figure and the page."""

import csv
import json
import re
from dataclasses import replace

import numpy as np
from evaluation_data import color_folder, labelled_maps, segmentation_task
from hypothesis import given, settings, strategies as st

from fgseg.datasets.opening import open_dataset
from fgseg.evaluation.html_report import best_and_worst, write_pictures
from fgseg.evaluation.report import write_run
from fgseg.evaluation.runner import run_task
from fgseg.evaluation.statistics import figures, image_row, pixel_counts

few = settings(deadline=None, max_examples=40)


def test_a_run_writes_json_a_table_of_classes_a_figure_and_a_self_contained_page(seg, colors, tmp_path):
    task = segmentation_task(seg, colors)
    outcome = run_task(task, tmp_path)
    written = [*write_run(outcome, tmp_path), *write_pictures(task, outcome, tmp_path)]
    assert [path.name for path in written] == ["run.json", "classes.csv", "figure.png", "report.html"]
    document = json.loads((tmp_path / "run.json").read_text())
    rows = list(csv.DictReader((tmp_path / "classes.csv").read_text().splitlines()))
    assert [row["name"] for row in rows] == ["red", "green", "blue"]
    for row, entry in zip(rows, document["classes"], strict=True):
        assert (row["iou"] == "") == (entry["iou"] is None)
        assert entry["iou"] is None or abs(float(row["iou"]) - entry["iou"]) < 1e-6
    page = (tmp_path / "report.html").read_text()
    assert page.count("<figure>") == 9
    assert not re.search(r"""(src|href)=['"](?!data:)""", page)


def test_the_page_escapes_names(seg, tmp_path):
    dataset = open_dataset(color_folder(tmp_path / "x"))
    first, *others = dataset.classes
    odd = dataset.with_classes((replace(first, name="<b>&red"), *others))
    task = segmentation_task(seg, odd)
    write_pictures(task, run_task(task, tmp_path / "out"), tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<b>" not in page
    assert "&lt;b&gt;&amp;red" in page


def test_best_and_worst_share_no_image():
    rows = [{"name": str(i), "model": {"confusion": [[0, 0, i + 1], [0, 1, 9 - i]]}} for i in range(5)]
    assert best_and_worst(rows, 2, num_classes=2) == (["4", "3"], ["0", "1"])
    best, worst = best_and_worst(rows, 9, num_classes=2)
    assert sorted(best + worst) == ["0", "1", "2", "3", "4"]


def test_unlabelled_pixels_count_as_missed_and_not_as_a_class_when_images_are_ranked():
    confusions = {"half": [[0, 0, 7], [0, 1, 3], [1, 1, 7], [1, 0, 3]], "nine tenths": [[0, 0, 90], [0, 2, 10]]}
    rows = [{"name": name, "model": {"confusion": confusion}} for name, confusion in confusions.items()]
    assert best_and_worst(rows, 1, num_classes=2) == (["nine tenths"], ["half"])


@few
@given(images=st.lists(labelled_maps(), min_size=1, max_size=6))
def test_images_are_ranked_by_the_mean_iou_of_a_run_on_each_image_alone(images):
    rows = [
        {"name": str(i), **image_row(labels, truth, num_classes=3, ignore=255, name=str(i), prompted=[0, 1, 2])}
        for i, (labels, truth) in enumerate(images)
    ]
    alone = figures(pixel_counts(rows, 3, prompts="all", has_background=False)["model"])["miou"]
    best, worst = best_and_worst(rows, len(rows), num_classes=3)
    ranked = [alone[int(name)] for name in (*best, *reversed(worst))]
    np.testing.assert_allclose(ranked, sorted(alone[np.isfinite(alone)], reverse=True), atol=1e-12)  # sums of 3 shares
