"""The pictures of a run: a figure of its classes, and a self-contained HTML page with its best and worst images."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from html import escape
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fgseg._files import write_bytes, write_text
from fgseg.datasets.dataset import Dataset
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
_PICTURE_SIDE = 360  # pixels; a page of 12 images and their overlays stays under 2 MB

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; color: #1b1b1b }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2rem }
table { border-collapse: collapse } td, th { padding: .2rem .8rem .2rem 0; text-align: left; vertical-align: top }
th { font-weight: 600; border-bottom: 1px solid #bbb }
.row { display: grid; grid-template-columns: repeat(3, 1fr); gap: .6rem; margin: .2rem 0 .2rem }
.row figure { margin: 0 } .row img, .chart { width: 100%; height: auto; display: block }
figcaption, .note { color: #555; font-size: .85rem }
.chip { display: inline-block; margin-right: .9rem; white-space: nowrap }
.chip i { display: inline-block; width: .8em; height: .8em; margin-right: .3em; border: 1px solid #0003 }
.legend { margin-bottom: 1.4rem; font-size: .85rem }
"""


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
    best, worst = best_and_worst(outcome.rows, _EXAMPLES, num_classes=len(task.dataset.classes))
    title = f"{document['model']['name']} on {document['data']['name']}"
    failed = [(row["image"], row["error"]) for row in document["failed"]]
    extent = [f"{document['n_images']} images, {len(failed)} failed", parts_of(document)]
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(title)}</title>",
        f"<meta name=viewport content='width=device-width'><style>{_STYLE}</style>",
        f"<h1>{escape(title)}</h1>",
        f"<p>{escape('; '.join(filter(None, extent)))}. Figures are in percent over the whole data "
        "set; brackets hold 95 % intervals over resampled images.</p>",
        _table(*table_rows(document)),
        "<h2>Classes</h2>" + _image(chart, "png", "IoU of each class, and the largest confusions", "chart"),
        *(
            f"<h2>{heading}</h2>" + "".join(_example(task, name) for name in names)
            for heading, names in (("Best images", best), ("Worst images", worst))
            if names
        ),
        "<h2>Failed</h2>" + _table(("image", "error"), failed) if failed else "",
        "<h2>Settings</h2>" + _table(("setting", "value"), _settings(document)),
        "</html>",
    ]
    return "\n".join(parts) + "\n"


def _example(task: SegmentationTask, name: str) -> str:
    pixels, truth, labels = task.prediction(name)
    count, colors = len(task.dataset.classes), class_colors(task.dataset.classes)
    known = np.where((truth >= 0) & (truth < count), truth, UNLABELLED)
    pictures = {
        "photo": pixels,
        "truth": overlay_labels(pixels, known, colors, opacity=0.65),
        "prediction": overlay_labels(pixels, labels, colors, opacity=0.65),
    }
    figures = "".join(
        f"<figure>{_image(encode_jpeg(shrink(picture, max_side=_PICTURE_SIDE)), 'jpeg', f'{caption} of {name}')}"
        f"<figcaption>{caption}</figcaption></figure>"
        for caption, picture in pictures.items()
    )
    return f"<div class=note>{escape(name)}</div><div class=row>{figures}</div>" + _legend(known, labels, task.dataset)


def _legend(truth: NDArray[np.int32], labels: NDArray[np.int32], dataset: Dataset) -> str:
    colors = class_colors(dataset.classes)
    present = sorted({int(index) for index in np.union1d(truth, labels)} - {UNLABELLED})
    chips = [
        f"<span class=chip><i style='background:rgb{colors[index]}'></i>{escape(dataset.classes[index].name)}</span>"
        for index in present
    ]
    return f"<div class=legend>{''.join(chips)}</div>"


def _settings(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = {f"model {key}": value for key, value in document["model"].items()}
    rows |= {f"data {key}": value for key, value in document["data"].items() if key != "classes"}
    texts = {
        key: ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
        for key, value in (rows | document["settings"]).items()
    }
    return [(key, text if len(text) <= 200 else f"{text[:200]} ...") for key, text in texts.items()]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["<tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in header) + "</tr>"]
    lines += ["<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows]
    return f"<table>{''.join(lines)}</table>"


def _image(data: bytes, kind: str, alt: str, css: str = "") -> str:
    if not data:
        return ""
    source = b64encode(data).decode("ascii")
    return f"<img class='{css}' alt='{escape(alt, quote=True)}' src='data:image/{kind};base64,{source}'>"
