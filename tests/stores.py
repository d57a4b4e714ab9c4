"""Small stores for tests: settings, images and rows that need no model."""

from dataclasses import replace

import numpy as np

from fgseg.formats.coco import encode_mask
from fgseg.images.label_png import encode_label_png
from fgseg.store.identity import RunIdentity, Writer
from fgseg.store.schema import ClassRow, Item, RegionRow, Row
from fgseg.store.store import Store

CLASSES = [{"name": "cup", "prompts": ["cup", "mug"], "color": [255, 0, 0]}, {"name": "red", "prompts": ["red"]}]
WRITER = Writer({"host": "here", "versions": {"fgseg": "0.1"}})
LABELS = np.array([[0, 0, -1], [1, -1, -1]], np.int32)
"""The label map of every row: a cup of two pixels, and one red pixel."""


def identity(**settings):
    return RunIdentity({"mode": "exclusive", "classes": CLASSES, "threshold": 0.5, **settings})


def items(count, first=0, mtime_ns=1, etag=None):
    numbers = range(first, first + count)
    return [Item(f"a/{n:04d}.jpg", f"/photos/a/{n:04d}.jpg", 1000 + n, mtime_ns, etag) for n in numbers]


def row_of(item, **changes):
    """A row with a result; `status="error"` makes one without."""
    names = ("image_id", "uri", "size", "mtime_ns", "etag")
    row = Row(*(getattr(item, name) for name in names), sha256="ab" * 32, status="ok", seconds=0.25)
    if changes.get("status") == "error":
        return replace(row, **{"error_type": "ImageError", "error": f"{item.uri}: not an image", **changes})
    classes = tuple(
        ClassRow(index, entry["name"], int((LABELS == index).sum()), 0.25, 0.75, encode_mask(LABELS == index))
        for index, entry in enumerate(CLASSES)
    )
    regions = (
        RegionRow(0, 0, 0, 2, 1, 2, 0.0, 0.5, 0.7, 0.75, 0), RegionRow(1, 0, 1, 1, 2, 1, 1.0, 0.0, 0.6, 0.75, 0),
    )  # fmt: skip
    labels = encode_label_png(LABELS, colors=[(255, 0, 0), (0, 255, 0)])
    values = {"height": 2, "width": 3, "unlabelled": 3, "classes": classes, "regions": regions, "labels": labels}
    return replace(row, **values | changes)


def commit(store, unit, failing=(), **changes):
    """Write the rows of a unit; the images named in `failing` are errors."""
    rows = [row_of(item, **{"status": "error"} if item.image_id in failing else changes) for item in store.items(unit)]
    store.commit(unit, rows, WRITER)


def filled(path, count=8, *, unit_size=3, failing=(), **settings):
    """A store whose images are all done."""
    store = Store.create_or_open(path, identity(**settings), unit_size=unit_size)
    store.append(items(count))
    for unit in store.units():
        commit(store, unit, failing)
    return store


def all_ids(store):
    """The ids of the images of the manifest, each once, in their order."""
    return list(dict.fromkeys(name for unit in store.manifest.units() for name in store.manifest.ids(unit)))
