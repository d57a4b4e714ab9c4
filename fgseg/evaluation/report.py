"""The files of a run: one JSON file with everything needed to repeat it, and a table of the classes."""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from fgseg._files.writers import write_text
from fgseg.evaluation.runner import Outcome
from fgseg.evaluation.statistics import RESAMPLES, SEED
from fgseg.metrics import BOUNDARY_SHARE

__all__ = ["SWEPT", "parts_of", "run_document", "table_rows", "write_run"]

SWEPT = ("recipe", "resolution", "refine", "logit_scale", "threshold", "propagate", "region_map")
_HEADINGS = {"miou": "mIoU", "aacc": "aAcc", "macc": "mAcc", "boundary_iou": "boundary IoU"}

METRIC = {
    "counts": "exact integers over the whole data set",
    "iou": "I / (P + L - I); a class in neither prediction nor truth is null and left out of means",
    "boundary": f"within {BOUNDARY_SHARE:g} of the image's diagonal of an edge",
    "interval": f"95 %, bootstrap over images, {RESAMPLES} resamples, each a mean over the classes it has",
    "seed": SEED,
}


def run_document(outcome: Outcome) -> dict[str, Any]:
    """A run in plain values for strict JSON, NaN as None. A repeated run differs in `timing` alone."""
    document = {
        "kind": outcome.kind,
        **outcome.provenance,
        "metric": METRIC,
        "n_images": len(outcome.rows),
        "n_failed": len(outcome.failed),
        "failed": [{"image": name, "error": reason} for name, reason in outcome.failed],
        **outcome.summary,
        "timing": {
            "finished": datetime.now(UTC).strftime("%Y-%m-%d"),
            "seconds": round(outcome.seconds, 2),
            "images_of_earlier_runs": outcome.resumed,
            "threads": torch.get_num_threads(),
        },
    }
    return {key: _without_nan(value) for key, value in document.items()}


def parts_of(document: Mapping[str, Any]) -> str:
    """Which part of a data set was measured; empty for all of it.

    >>> parts_of({"data": {"images": 3, "full_size": 1449, "classes": [["cat", "cat"]], "classes_left_out": ["dog"]}})
    '1 of 2 classes, 3 of 1449 images'
    """
    data = document["data"]
    count, left_out = len(data.get("classes", ())), len(data.get("classes_left_out", ()))
    parts = [f"{count} of {count + left_out} classes"] if left_out else []
    if (data.get("full_size") or data["images"]) != data["images"]:
        parts.append(f"{data['images']} of {data['full_size']} images")
    return ", ".join(parts)


def write_run(outcome: Outcome, folder: Path) -> list[Path]:
    """Write run.json, and classes.csv if the task has classes.

    Returns:
        The files.

    Raises:
        OutputError: a file cannot be written.
    """
    written = [folder / "run.json"]
    write_text(written[0], _laid_out(run_document(outcome)))
    if classes := outcome.summary.get("classes"):
        written.append(folder / "classes.csv")
        write_text(written[1], _csv(classes))
    return written


def _laid_out(document: Mapping[str, Any]) -> str:
    """JSON with one line per key and one line per object or list in a list, so that files compare well."""

    def value_of(value: Any) -> str:
        if isinstance(value, list) and value and isinstance(value[0], (dict, list)):
            return "[\n  " + ",\n  ".join(json.dumps(row, allow_nan=False) for row in value) + "\n ]"
        return json.dumps(value, allow_nan=False)

    return "{\n " + ",\n ".join(f"{json.dumps(key)}: {value_of(value)}" for key, value in document.items()) + "\n}\n"


def table_rows(document: Mapping[str, Any]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Header and rows of the table of a run: the model and the baselines, in percent, with intervals in brackets.

    >>> cell = {"value": 0.5, "interval": [0.4, 0.6]}
    >>> table_rows({"kind": "boxes", "model": {"name": "mini"}, "table": {"model": {"top1": cell}}})
    (('', 'top1'), [('mini', '50.0 [40.0, 60.0]')])
    """
    if "sweep" in document:
        return _sweep_rows(document["sweep"])
    table = document.get("table", {})
    columns = list(next(iter(table.values()), {}))
    name = document["model"]["name"]
    rows = [
        (name if row == "model" else row, *(_cell(figures[column]) for column in columns))
        for row, figures in table.items()
    ]
    return ("", *(_HEADINGS.get(column, column) for column in columns)), rows


def _sweep_rows(sweep: Sequence[Mapping[str, Any]]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    names = [name for name in SWEPT if name in sweep[0]]  # a file of an earlier version lacks some
    rows = [
        (
            *(f"{row[name]:g}" if isinstance(row[name], float) else str(row[name]) for name in names),
            _cell({"value": row["miou"], "interval": row["interval"]}),
            _cell({"value": row["aacc"]}),
        )
        for row in sweep
    ]
    return (*names, "mIoU", "aAcc"), rows


def _cell(figure: Mapping[str, Any]) -> str:
    value, interval = figure["value"], figure.get("interval")
    if value is None or not math.isfinite(value):
        return "-"
    if not interval or None in interval:
        return f"{100 * value:.1f}"
    low, high = interval
    return f"{100 * value:.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def _csv(classes: Sequence[Mapping[str, Any]]) -> str:
    stream = io.StringIO()
    rows = [[_csv_cell(value) for value in row.values()] for row in classes]
    csv.writer(stream, lineterminator="\n").writerows([list(classes[0]), *rows])
    return stream.getvalue()


def _csv_cell(value: Any) -> Any:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.6f}"
    return "; ".join(value) if isinstance(value, list) else value


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nan(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
