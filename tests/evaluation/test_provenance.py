"""The hash of the code covers only what computes figures, and every figure comes from `fgseg.metrics`."""

import ast
from pathlib import Path

import numpy as np
import pytest

import fgseg.evaluation.runner as runner_module
from fgseg.evaluation import provenance
from fgseg.evaluation.provenance import code_hash
from fgseg.evaluation.runner import run_task

ROOT = Path(__file__).parents[2]
CODE = '''"""A module."""

LIMIT = 3
"""A limit."""


class Counter:
    """Counts."""

    def count(self, values):
        """Count values."""
        # all of them
        return len(values)
'''


@pytest.fixture
def hash_after(tmp_path):
    """The hash of a small package whose module was edited by replacements."""
    editions = iter(range(100))

    def edited(*replacements, name="evaluation/statistics.py"):
        package = tmp_path / str(next(editions))
        files = dict.fromkeys(("evaluation/statistics.py", "web/page.py", "evaluation/report.py"), CODE)
        for old, new in replacements:
            assert old in files[name]
            files[name] = files[name].replace(old, new)
        for file, text in files.items():
            (package / file).parent.mkdir(parents=True, exist_ok=True)
            (package / file).write_text(text)
        return code_hash(package)

    return edited


@pytest.mark.parametrize(
    "edit",
    [
        ('"""A module."""', '"""A module\n\nof several lines."""'),
        ('"""A limit."""', '"""The limit."""'),
        ('"""Counts."""', '"""Counter of values."""'),
        ('"""Count values."""', '"""Number of values."""'),
        ("# all of them", "# every one"),
        ("\n\n\nclass", "\n\nclass"),
    ],
)
def test_an_edit_of_a_docstring_a_comment_or_the_layout_keeps_the_hash_of_the_code(hash_after, edit):
    assert hash_after(edit) == hash_after()


@pytest.mark.parametrize("edit", [("LIMIT = 3", "LIMIT = 4"), ("len(values)", "sum(values)"), ("count(", "total(")])
def test_an_edit_of_the_code_changes_the_hash(hash_after, edit):
    assert hash_after(edit) != hash_after()


@pytest.mark.parametrize("name", ["web/page.py", "evaluation/report.py"])
def test_an_edit_of_a_module_that_computes_no_figure_keeps_the_hash(hash_after, name):
    assert hash_after(("LIMIT = 3", "LIMIT = 4"), name=name) == hash_after()


def test_the_modules_that_are_left_out_of_the_hash_exist():
    package = ROOT / "fgseg"
    assert all((package / name).exists() for name in provenance._IRRELEVANT)
    hashed = {name for name, _ in provenance._modules(package)}
    assert {"metrics.py", "evaluation/statistics.py", "segmenter.py", "encoders/networks/clip.py"} <= hashed
    assert not any(name.startswith(("web/", "commands/", "drawing/")) for name in hashed)


def test_a_run_times_the_measuring_alone(monkeypatch, tmp_path):
    """The provenance, which hashes files, and the summary take 10 s each here; an image takes 1 s."""
    now = [0.0]
    monkeypatch.setattr(runner_module.time, "perf_counter", lambda: now[0])

    class Task:
        kind = "segmentation"
        items = dict.fromkeys("ab")

        def provenance(self):
            now[0] += 10
            return {"model": {}, "data": {}, "settings": {}}

        def files(self, name):
            return []

        def measure(self, name):
            now[0] += 1
            return {}

        def summary(self, rows):
            now[0] += 10
            return {}

    assert run_task(Task(), tmp_path).seconds == 2


def divides_an_intersection_by_a_union(tree):
    """Whether a module divides by a sum minus an intersection, or by the number of pixels in either of two masks."""
    for node in ast.walk(tree):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            divisor = ast.unparse(node.right)
            if "|" in divisor or "union" in divisor or ("+" in divisor and "-" in divisor):
                return True
    return False


@pytest.mark.parametrize(
    "path",
    sorted([*(ROOT / "fgseg" / "evaluation").rglob("*.py"), *(ROOT / "benchmarks").glob("*.py")]),
    ids=lambda path: path.name,
)
def test_no_benchmark_computes_iou_itself(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not divides_an_intersection_by_a_union(tree)
    functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    assert not functions & {"iou", "mean_iou", "_iou", "_mean_iou", "boundary_iou"}


def test_the_check_for_another_iou_finds_each_form():
    for code in ("hit / (given + true - hit)", "(a & b).sum() / (a | b).sum()", "hit / union"):
        assert divides_an_intersection_by_a_union(ast.parse(code))
    assert not divides_an_intersection_by_a_union(ast.parse("hits / total"))


def test_the_figures_of_a_run_are_those_of_the_metrics_to_the_bit():
    from fgseg.evaluation.statistics import figures, image_row, pixel_counts
    from fgseg.metrics import (
        accuracy,
        boundary_counts,
        boundary_iou,
        confusion,
        mean_accuracy,
        mean_iou,
        mean_of_classes,
    )

    rng = np.random.RandomState(731)
    pairs = [
        (rng.randint(0, 5, (20, 30)).astype(np.int32), rng.randint(0, 5, (20, 30)).astype(np.int32)) for _ in "abc"
    ]
    rows = [image_row(labels, truth, num_classes=5, ignore=255, name="", prompted=range(5)) for labels, truth in pairs]
    values = figures(pixel_counts(rows, 5, prompts="all", has_background=False)["model"].sum(0))
    counts = sum(confusion(labels, truth, 5) for labels, truth in pairs)
    edges = sum(boundary_counts(labels, truth, 5) for labels, truth in pairs)
    assert {name: float(value) for name, value in values.items()} == {
        "miou": mean_iou(counts),
        "aacc": accuracy(counts),
        "macc": mean_accuracy(counts),
        "boundary_iou": float(mean_of_classes(boundary_iou(edges))),
    }
