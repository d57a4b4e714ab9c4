"""What batch runs are compared with: the rows of a plain loop, and those that a store holds."""

from collections import Counter
from dataclasses import asdict

import fgseg
from fgseg.prompts.classes import parse_classes
from fgseg.segmenter import load
from fgseg.store.sources import SourceOptions, find_items
from fgseg.store.units import UnitOptions, run_unit

WORDS = ["red", "blue, green"]
SETTINGS = {"resolution": "squash:32", "threshold": 0.4}


def plain(row):
    """What of a row does not depend on when and by whom it was made."""
    return {name: value for name, value in asdict(row).items() if name not in ("seconds", "writer")}


def looped_rows(folder, model):
    """The rows of a plain loop over a folder, by id."""
    items = list(find_items([str(folder)], SourceOptions(recursive=True), Counter()))
    rows = run_unit(load(model, dtype="float32"), items, UnitOptions(parse_classes(WORDS), SETTINGS))
    return {row.image_id: plain(row) for row in rows}


def stored_rows(path):
    """The rows of a store, by id."""
    return {row.image_id: plain(row) for row in fgseg.open_store(path)}


def files_of(path):
    """The files of a store."""
    return sorted(file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())
