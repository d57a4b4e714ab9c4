"""The pictures of a run: a figure of its classes, and a self-contained HTML page with its best and worst images."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from fgseg._files.html import html_template
from fgseg._files.writers import write_bytes, write_text
from fgseg.drawing.benchmark_figure import show_benchmark
from fgseg.drawing.colors import class_colors
from fgseg.drawing.overlay import overlay_labels
from fgseg.evaluation.report import parts_of, run_document, table_rows
from fgseg.evaluation.runner import EvaluationTask, Outcome
from fgseg.evaluation.statistics import counts_of_row, total_confusion
from fgseg.evaluation.tasks.segmentation import SegmentationTask
from fgseg.images.resizing import shrink
from fgseg.images.writing import encode_jpeg
from fgseg.metrics import class_iou, mean_of_classes
from fgseg.types import UNLABELLED

__all__ = ["best_and_worst", "write_pictures"]

_EXAMPLES = 6  # of the best images and of the worst
_TEMPLATE = Path(__file__).parent / "assets" / "report.html"
_PICTURE_SIDE = 360  # pixels; a page of 12 images and their overlays stays under 2 MB


def write_pictures(task: EvaluationTask, outcome: Outcome, folder: Path) -> list[Path]:
    """Write figure.png if the task has classes, and report.html if it is a segmentation.

    The labels of the page's images are predicted again, since a run keeps no label maps.

    Returns:
        The files.

    Raises:
        OutputError: a file cannot be written.
    """
    written: list[Path] = []
    chart = _chart(outcome)
    if chart:
        written.append(folder / "figure.png")
        write_bytes(written[-1], chart)
    if isinstance(task, SegmentationTask):
        written.append(folder / "report.html")
        write_text(written[-1], _page(task, outcome, chart))
    return written


def best_and_worst(rows: Sequence[Mapping[str, Any]], count: int, *, num_classes: int) -> tuple[list[str], list[str]]:
    """Names of the images with the highest and with the lowest mean IoU over their own classes; no name is in both.

    The mean IoU of one image is not part of any figure; it only selects what to show.

    Args:
        rows: the rows of a segmentation.
        count: maximum number of names in each list.
        num_classes: number of classes of the data set.

    >>> row = {"model": {"confusion": [[0, 0, 3], [0, 1, 1]]}}
    >>> best_and_worst([{"name": "a", **row}], 1, num_classes=2)
    (['a'], [])
    """
    scores = [float(mean_of_classes(class_iou(counts_of_row(row, num_classes)))) for row in rows]
    ranked = sorted((-score, place) for place, score in enumerate(scores) if np.isfinite(score))
    names = [rows[place]["name"] for _, place in ranked]
    count = min(count, (len(names) + 1) // 2)
    return names[:count], names[::-1][: min(count, len(names) - count)]


def _chart(outcome: Outcome) -> bytes:
    classes = outcome.summary.get("classes") or []
    score = "iou" if classes and "iou" in classes[0] else "top1"
    values = np.array([row[score] for row in classes], np.float64)
    if not np.isfinite(values).any():
        return b""
    counts = total_confusion(outcome.rows, len(classes)) if score == "iou" else np.zeros((0, 0), np.int64)
    figure = show_benchmark(
        [row["name"] for row in classes], values, counts, score_name="IoU" if score == "iou" else "top-1"
    )
    stream = BytesIO()
    figure.savefig(stream, format="png", dpi=110, metadata={"Software": None})
    return stream.getvalue()


def _page(task: SegmentationTask, outcome: Outcome, chart: bytes) -> str:
    document = run_document(outcome)
    names = best_and_worst(outcome.rows, _EXAMPLES, num_classes=len(task.dataset.classes))
    failed = [(row["image"], row["error"]) for row in document["failed"]]
    extent = [f"{document['n_images']} images, {len(failed)} failed", parts_of(document)]
    groups = zip(("Best images", "Worst images"), names, strict=True)
    return html_template(_TEMPLATE).render(
        title=f"{document['model']['name']} on {document['data']['name']}",
        extent="; ".join(filter(None, extent)),
        figures=table_rows(document),
        chart=_data_uri(chart, "png") if chart else "",
        groups=[(heading, [_example(task, name) for name in some]) for heading, some in groups],
        failed=failed,
        settings=_settings(document),
    )


def _example(task: SegmentationTask, name: str) -> dict[str, Any]:
    pixels, truth, labels = task.prediction(name)
    classes, colors = task.dataset.classes, class_colors(task.dataset.classes)
    known = np.where((truth >= 0) & (truth < len(classes)), truth, UNLABELLED)
    pictures = {
        "photo": pixels,
        "truth": overlay_labels(pixels, known, colors, opacity=0.65),
        "prediction": overlay_labels(pixels, labels, colors, opacity=0.65),
    }
    present = sorted({int(index) for index in np.union1d(known, labels)} - {UNLABELLED})
    return {
        "name": name,
        "pictures": {
            caption: _data_uri(encode_jpeg(shrink(picture, max_side=_PICTURE_SIDE)), "jpeg")
            for caption, picture in pictures.items()
        },
        "legend": [(classes[index].name, colors[index]) for index in present],
    }


def _settings(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = {f"model {key}": value for key, value in document["model"].items()}
    rows |= {f"data {key}": value for key, value in document["data"].items() if key != "classes"}
    texts = {
        key: ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
        for key, value in (rows | document["settings"]).items()
    }
    return [(key, text if len(text) <= 200 else f"{text[:200]} ...") for key, text in texts.items()]


def _data_uri(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{b64encode(data).decode('ascii')}"
